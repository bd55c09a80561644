"""Gates that do not ask the input: what choices by the input are to be measured against.

They answer with one tensor (N, G) as `gate.py` does, and cost nothing. `values` come with the
checkpoint; a network that loads none computes everything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vared_mm.method.config import DynamicConfig

# Answers that a random gate draws from, at most.
ROWS = 20


class FixedGate(nn.Module):
    """One policy for all samples: `values` (axes · S,), 0 for closed paths."""

    values: Tensor

    def __init__(self, axes: int, config: DynamicConfig) -> None:
        super().__init__()
        first = torch.zeros(axes, config.search_space, dtype=torch.float32)
        first[:, 0] = 1
        self.register_buffer("values", first.flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.values.to(x.device, torch.float32).repeat(x.shape[0], 1)

    def macs(self) -> int:
        return 0

    def extra_repr(self) -> str:
        return ", ".join(f"{value:.2f}" for value in self.values.flatten().tolist() if value)


class RandomGate(FixedGate):
    """For each sample one row of `values` (ROWS, axes · S), drawn by `chances` (ROWS,) anew in
    every pass, in training and evaluation.
    """

    chances: Tensor

    def __init__(self, axes: int, config: DynamicConfig) -> None:
        super().__init__(axes, config)
        self.values = self.values.repeat(ROWS, 1)
        self.register_buffer("chances", torch.full((ROWS,), 1 / ROWS, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        values, chances = (v.to(x.device, torch.float32) for v in (self.values, self.chances))
        return values[torch.multinomial(chances, x.shape[0], replacement=True)]


KINDS = {"fixed": FixedGate, "random": RandomGate}
