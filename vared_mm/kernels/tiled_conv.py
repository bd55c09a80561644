"""Convolutions of bfloat16 maps on processors with AMX: see tiled_conv.cpp.

oneDNN's look up how to compute in every call, which takes longer than most convolutions of one clip
take here; have no way to multiply by a gate's value; and fill a tenth of a tile with an image's
three channels.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vared_mm.kernels.convolutions import FINISH_H, LANES, Finish, over_time, vectors_of
from vared_mm.kernels.functions import Bound, Function
from vared_mm.kernels.loading import LANES_H, Source, loaded
from vared_mm.method.equations import LAYOUTS

SOURCE = Source.read(LANES_H, FINISH_H, Path(__file__).with_name("tiled_conv.cpp")).of(
    torch.bfloat16
)
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


@cache
def compiled_kernels() -> dict[str, Function] | None:
    """They answer the same on every processor: without AMX, slowly."""
    return loaded(SOURCE)


class Tiling:
    """What the kernel is told of a convolution that it knows; without its bias.

    Args:
        weight: (F, C, [kT,] kH, kW).
        stride, padding, dilation: Of each dimension.
    """

    def __init__(
        self,
        weight: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> None:
        self.filters, self.inputs = weight.shape[:2]
        self.ndim = weight.ndim
        kernel = over_time(weight.shape[2:])
        none = (0,) * (5 - weight.ndim)
        self.stride, self.padding = over_time(stride), (*none, *padding)
        self.reach = [(k - 1) * d for k, d in zip(kernel, over_time(dilation), strict=True)]
        self.told = dict(
            inputs=self.inputs, filters=self.filters, kernel=kernel, stride=self.stride,
            padding=self.padding, dilation=over_time(dilation),
            weight=tiles_of(weight, dilation[-1] == 1),
        )  # fmt: skip
        self._of_size = lru_cache(256)(self._bound)
        self._sizes = lru_cache(64)(self._size_of)

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel reads such maps, and is there."""
        whole = x.ndim == self.ndim and x.shape[1] == self.inputs and x.shape[0] > 0
        here = whole and x.device.type == "cpu" and library(x.dtype) is not None
        # What is smaller than the kernel is torch's to refuse.
        return here and min(self._sizes(x.shape)) > 0

    def __call__(
        self, x: Tensor, finish: Finish, gates: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        """The convolution of x and its `finish`.

        Args:
            x: (N, C, [T,] H, W) that it serves, channels last.
            gates: (N, columns), contiguous float32.
            residual: As the answer, channels last.
        """
        run, shape = self._of_size(x.shape, finish)
        out = torch.empty(shape, dtype=x.dtype, memory_format=LAYOUTS[x.ndim])
        run(x=x, gates=gates, residual=residual, out=out)
        return out

    def _bound(self, shape: torch.Size, finish: Finish) -> tuple[Bound, tuple[int, ...]]:
        """The kernel for maps of a shape, and that of what it makes."""
        kernels = library()
        assert kernels is not None
        samples, _, *size = shape
        to = self._sizes(shape)
        run = kernels["tiled_conv"].bind(
            samples=samples, **{"from": over_time(size), "to": to}, **self.told, **finish.told
        )
        return run, (samples, self.filters, *to[5 - self.ndim :])

    def _size_of(self, shape: torch.Size) -> tuple[int, ...]:
        """(T, H, W) of the output for an input (N, C, [T,] H, W); 0 or less where it has none."""
        each = zip(over_time(shape[2:]), self.padding, self.reach, self.stride, strict=True)
        return tuple((n + 2 * p - r - 1) // s + 1 for n, p, r, s in each)


def knows(
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> bool:
    """Whether it is one that tiles can be filled with."""
    reach = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
    inside = all(p <= r for p, r in zip(padding, reach, strict=True))
    return weight.device.type == "cpu" and len(weight) >= LANES and groups == 1 and inside


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
