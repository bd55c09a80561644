"""Gates that do not ask the input: what choices by the input are to be measured against.

They answer with one tensor (N, G) as `gate.py` does, and cost nothing. `values` come with the
checkpoint; a network that loads none computes everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.method.config import DynamicConfig
from vared_mm.method.gate import FollowerGate, HandsOn


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


def has_one_policy(model: nn.Module) -> bool:
    """Whether its gates are fixed: no sample can get other choices."""
    kinds = {type(getattr(module, "gate", None)) for module in model.modules()}
    return FixedGate in kinds <= {FixedGate, FollowerGate, type(None)}


class RandomGate(FixedGate):
    """For each sample one row of `values` (rows, axes · S), drawn by `chances` (rows,) anew in
    every pass, in training and evaluation. There are as many rows as in the checkpoint.
    """

    chances: Tensor

    def __init__(self, axes: int, config: DynamicConfig) -> None:
        super().__init__(axes, config)
        self.values = self.values[None]
        self.register_buffer("chances", torch.ones(1, dtype=torch.float32))

    def fit(self, state: Mapping[str, Any], prefix: str) -> None:
        """Takes the number of rows of what is about to be loaded."""
        if f"{prefix}chances" in state:
            rows = len(state[f"{prefix}chances"])
            self.values = self.values[:1].repeat(rows, 1)
            self.chances = self.chances.new_full((rows,), 1 / rows)

    def forward(self, x: Tensor) -> Tensor:
        values, chances = (v.to(x.device, torch.float32) for v in (self.values, self.chances))
        return values[torch.multinomial(chances, x.shape[0], replacement=True)]


class RandomBlockGate(HandsOn, RandomGate):
    """What it draws a block's other convolutions have too."""
