"""`rebuild`, an operator: the maps of all channels and frames from those that were computed.

It is `rebuild_by_definition`; `vared_mm.kernels` has forms that pass over the maps less often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vared_mm.method.equations import Rebuild, layout_of, new_maps, rebuild_by_definition
from vared_mm.method.errors import DynamicError
from vared_mm.method.operators import Operator, wants_torch_alone


def rebuild(of: Rebuild) -> Tensor:
    """All maps, (N, C, [T,] H, W), in the layout of y.

    Raises:
        DynamicError: There is not a row of gates for each sample, a number for each path.
    """
    y, gates, pattern = of.y, of.gates, of.pattern
    if gates.shape != (y.shape[0], len(pattern)):
        raise DynamicError(
            f"{y.shape[0]} samples with {len(pattern)} paths came with gates of "
            f"{tuple(gates.shape)}, and each wants a row; does a hook answer in its place?"
        )
    return rebuild_by_definition(*of) if wants_torch_alone() else REBUILD(*of)


def _by_definition(y: Tensor, *arguments: Any) -> Tensor:
    out = rebuild_by_definition(y, *arguments)
    return out.contiguous(memory_format=layout_of(y))


def flops_of_rebuild(
    y: Sequence[int], gates: Sequence[int], cheap_channel: Sequence[Sequence[int]],
    cheap_time: Sequence[Sequence[int]], pattern: Sequence[bool], channels: int, frames: int,
) -> int:  # fmt: skip
    """Two for each tap of what the open paths rebuild."""
    computed_frames = y[2] if len(y) == 5 else 1
    spaces = [1 + len(cheap) if cheap else 0 for cheap in (cheap_channel, cheap_time)]
    rebuilt, taps = 0, 0
    for i, phi in enumerate(cheap_channel, 1):
        taps = math.prod(phi[1:])
        rebuilt += phi[0] * computed_frames * pattern[i]
    for j, phi in enumerate(cheap_time, 1):
        taps = math.prod(phi[2:])
        kept = math.ceil(frames / 2**j)
        rebuilt += channels * (frames - kept) * pattern[spaces[0] + j]
    return 2 * y[0] * rebuilt * taps * y[-2] * y[-1]


ARGUMENTS = (
    "Tensor y, Tensor gates, Tensor[] cheap_channel, Tensor[] cheap_time, bool[] pattern, "
    "SymInt channels, SymInt frames"
)
REBUILD = Operator(
    f"rebuild({ARGUMENTS}) -> Tensor",
    _by_definition,
    lambda y, gates, cheap_channel, cheap_time, pattern, *size: new_maps(y, *size),
    flops_of_rebuild,
)
REBUILD.differentiate(rebuild_by_definition)
