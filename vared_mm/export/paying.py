"""Which layers are faster by their choice than by computing all, on the engine that runs the file.

Concatenation and Φ are passes over the maps, which some engines take longer for than the filters
and frames that are spared.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from vared_mm.export.fixed_conv import FixedConv, fixed
from vared_mm.export.snapshot import Followed, Sizes, folded, followed
from vared_mm.export.targets import Target, refused
from vared_mm.fast.static_twin import plain_conv
from vared_mm.method.observe import dynamic_convs
from vared_mm.screen import tracked
from vared_mm.speed import interleaved


@dataclass(frozen=True)
class LayerTime:
    """Medians in milliseconds of one convolution with the norm and the ReLU that follow it."""

    name: str
    full_ms: float
    chosen_ms: float

    @property
    def pays(self) -> bool:
        return self.chosen_ms < self.full_ms


@torch.no_grad()
def layer_times(
    model: nn.Module, rows: Mapping[str, Sequence[float]], sizes: Sizes, target: Target,
    repeats: int,
) -> list[LayerTime]:  # fmt: skip
    """Of those that rebuild something; the others compute all."""
    follow, found = followed(model), []
    for name, conv in tracked(dynamic_convs(model).items(), len(rows), "layers timed"):
        norm, relu = follow.get(name, Followed())
        its_norm = None if norm is None else copy.deepcopy(model.get_submodule(norm))
        chosen = fixed(conv, rows[name], sizes[name])
        if not isinstance(chosen, FixedConv):
            continue
        x = torch.randn(1, *sizes[name][1:], generator=torch.Generator().manual_seed(0))
        runs = {}
        for kind, made in (("full", plain_conv(conv)), ("chosen", chosen)):
            parts = *folded(made, its_norm), *[nn.ReLU()] * relu
            layer = nn.Sequential(*parts).eval().requires_grad_(False)
            with refused(layer):
                runs[kind] = partial(target.run(layer, x), x)
        speeds = interleaved(runs, 1, repeats)
        found.append(LayerTime(name, *(1000 / speeds[kind].median for kind in ("full", "chosen"))))
    return found
