"""Gates that do not ask the input: what choices by the input are to be measured against.

They answer with one tensor (N, G) as `gate.py` does, and cost nothing. `values` come with the
checkpoint; a network that loads none computes everything.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.method.config import DynamicConfig
from vared_mm.method.errors import DynamicError


class FixedGate(nn.Module):
    """One policy for all samples: `values` (axes · S,), 0 for closed paths."""

    values: Tensor

    def __init__(self, axes: int, config: DynamicConfig, leader: Any = None) -> None:
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
    """For each sample one row of `values` (rows, axes · S), drawn by `chances` (rows,) anew in
    every pass, in training and evaluation. There are as many rows as in the checkpoint.

    Args:
        leader: That of the block's first convolution, whose draw this one takes over.
    """

    chances: Tensor

    def __init__(self, axes: int, config: DynamicConfig, leader: RandomGate | None = None) -> None:
        super().__init__(axes, config)
        self.values = self.values[None]
        self.register_buffer("chances", torch.ones(1, dtype=torch.float32))
        # In a tuple, the leader is not registered a second time.
        self._leader = (leader,)
        self._pass = threading.local()

    def fit(self, state: Mapping[str, Any], prefix: str) -> None:
        """Takes the number of rows of what is about to be loaded."""
        if f"{prefix}chances" in state:
            rows = len(state[f"{prefix}chances"])
            self.values = self.values[:1].repeat(rows, 1)
            self.chances = self.chances.new_full((rows,), 1 / rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.values.to(x.device, torch.float32)[self.drawn(x)]

    def drawn(self, x: Tensor) -> Tensor:
        """(N,) which row each sample has."""
        (leader,) = self._leader
        if leader is None:
            chances = self.chances.to(x.device, torch.float32)
            self._pass.rows = torch.multinomial(chances, x.shape[0], replacement=True)
            return self._pass.rows
        rows: Tensor | None = getattr(leader._pass, "rows", None)
        if rows is None or len(rows) != len(x):
            raise DynamicError(
                "a convolution that shares its block's gate ran before the block's first one, "
                "which draws, or on another batch; give each its own with share='conv'"
            )
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_pass"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._pass = threading.local()


KINDS = {"fixed": FixedGate, "random": RandomGate}
