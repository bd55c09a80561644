"""Convolutions of bfloat16 maps on processors with AMX: see tiled_conv.cpp.

oneDNN's look up how to compute in every call, which takes longer than most convolutions of one clip
take here; have no way to multiply by a gate's value; and fill a tenth of a tile with an image's
three channels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vared_mm.kernels.convolutions import FINISH_H, LANES, MOVES_H, Convolving, Geometry, vectors_of
from vared_mm.kernels.functions import Function
from vared_mm.kernels.loading import LANES_H, Source, kernels_of

SOURCE = Source.read(LANES_H, FINISH_H, MOVES_H, Path(__file__).with_name("tiled_conv.cpp")).of(
    torch.bfloat16
)
# They answer the same on every processor: without AMX, slowly.
compiled_kernels = kernels_of(SOURCE)
# Numbers of x that meet in one instruction.
DEPTH = 32


def library(maps: torch.dtype = torch.bfloat16) -> dict[str, Function] | None:
    """The compiled kernel; None without a compiler, see `vared_mm.kernels.loading`, or AMX, or for
    other maps.
    """
    return compiled_kernels() if maps == torch.bfloat16 and suits() else None


@cache
def suits() -> bool:
    """Whether this processor has AMX, and the system lets us use it."""
    # To compile it takes seconds, and where it is no use.
    if not getattr(torch.cpu, "_is_amx_tile_supported", bool)():
        return False
    kernels = compiled_kernels()
    return kernels is not None and bool(kernels["suits"]())


class Tiling(Convolving):
    """What the kernel is told of a convolution without groups; without its bias."""

    without_groups = "tiled_conv"

    def told_of(self, weight: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        tiles = tiles_of(weight, self.dilation[-1] == 1)
        return dict(inputs=self.inputs, filters=self.filters, weight=tiles), self.geometry()

    def library(self, maps: torch.dtype) -> dict[str, Function] | None:
        return library(maps)


def knows(weight: Tensor, geometry: Geometry) -> bool:
    """Whether it is one that tiles can be filled with."""
    is_here, is_whole = weight.device.type == "cpu", geometry.groups == 1
    return is_here and is_whole and len(weight) >= LANES and geometry.pads_within(weight.shape[2:])


def tiles_of(weight: Tensor, along_rows: bool) -> Tensor:
    """The weights in the order in which they are read, (vectors, steps, 16, 16, 2), bfloat16.

    Args:
        along_rows: What a row of the kernel reads lies side by side.
    """
    taps = weight.detach().float()
    filters, inputs, *kernel = taps.shape
    run = inputs * (kernel[-1] if along_rows else 1)
    # Each number of x that meets a filter, in the order of memory.
    rows = taps.movedim(1, -1).reshape(filters, -1, run)
    firsts = torch.arange(0, run, DEPTH).clamp(max=max(run - DEPTH, 0))
    place = firsts[:, None] + torch.arange(DEPTH)
    # The last begins early: what the one before it has read counts for nothing, nor what is beyond.
    counts = (place >= torch.arange(len(firsts))[:, None] * DEPTH) & (place < run)
    parts = torch.where(counts, rows[..., place.clamp(max=run - 1)], 0)
    vectors = parts.flatten(1, 2)[vectors_of(filters)]
    vectors = vectors.unflatten(-1, (-1, 2)).permute(0, 2, 3, 1, 4)
    return vectors.to(torch.bfloat16).contiguous()
