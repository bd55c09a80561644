"""Convolutions of all channels or depthwise, on a CPU: see convolutions.cpp.

oneDNN's take as long to be called as X3D's small maps take to be computed, and cannot multiply by a
gate's value: here BatchNorm, gates, the residual and ReLU cost no pass over the maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from vared_mm.kernels.functions import Bound, Function, are_maps
from vared_mm.kernels.loading import LANES_H, Source, kernels_of
from vared_mm.method.equations import LAYOUTS

HERE = Path(__file__).parent
FINISH_H = HERE / "finish.h"
MOVES_H = HERE / "moves.h"
PARTS = (LANES_H, FINISH_H, MOVES_H, HERE / "cells.h", HERE / "direct.h")
SOURCE = Source.read(*PARTS, HERE / "convolutions.cpp")
# They answer the same on every processor.
compiled_kernels = kernels_of(SOURCE)
LANES = 16
# Weights of a convolution that reads neighbours, below which it is small, by how many vectors of
# filters lie side by side (VECTORS of direct.h): with more, ours are oneDNN's match but where maps
# are small, and most of what meets them is padding. And weights of a filter, below which to find
# them takes longer than to meet them.
SMALL, FEW = {1: 150_000, 3: 600_000}, 64


def library(maps: torch.dtype = torch.float32) -> dict[str, Function] | None:
    """The compiled kernels; None without a compiler, see `vared_mm.kernels.loading`, or AVX2."""
    return compiled_kernels(maps) if suits() else None


@cache
def suits() -> bool:
    """Whether whole networks are faster with them than with oneDNN on this processor."""
    kernels = compiled_kernels()
    return kernels is not None and bool(kernels["suits"]())


class Finish:
    """What follows a convolution: activate(factor · scale · y + bias + residual).

    Args:
        scale, bias: (C,), float32.
        columns: How many gates a sample has.
        factor: Those whose product is the sample's factor, which is 1 without any.
    """

    def __init__(
        self, scale: Tensor, bias: Tensor, relu: bool, columns: int = 0, factor: Sequence[int] = ()
    ) -> None:
        # Read in whole vectors.
        scale, bias = (F.pad(v, (0, max(LANES - len(v), 0))) for v in (scale, bias))
        self.told = {
            "scale": scale.contiguous(), "bias": bias.contiguous(), "relu": relu,
            "columns": columns, "factors": len(factor), "factor": tuple(factor),
        }  # fmt: skip


class Between(NamedTuple):
    """Frames between those that a pointwise convolution before a depthwise one computes.

    Args:
        step: Every `step`-th frame is computed.
        taps: What rebuilds the others of those by 3x3 pixels; see `between`.
    """

    step: int
    taps: Tensor | None


NOTHING_BETWEEN = Between(1, None)


def between(phi: Tensor) -> Between:
    """Frames that Φ rebuilds, (R - 1, C, 3, 3)."""
    return Between(len(phi) + 1, taps_of(phi.transpose(0, 1)))


class Expander(NamedTuple):
    """The pointwise convolution before a depthwise one, and what follows it."""

    conv: Convolving
    finish: Finish
    gates: Tensor | None
    between: Between = NOTHING_BETWEEN

    def of(self, samples: slice) -> Expander:
        """For some samples of the batch."""
        return self if self.gates is None else self._replace(gates=self.gates[samples])

    def parted(self, parts: int) -> Expander:
        """For each sample as so many, one after the other."""
        return self if self.gates is None else self._replace(gates=parted(self.gates, parts))


def parted(gates: Tensor, parts: int) -> Tensor:
    """(N · parts, G): each row so often, one after the other, contiguous."""
    return gates[:, None].expand(-1, parts, -1).flatten(0, 1).contiguous()


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(cls, conv: _ConvNd, step: int = 1) -> Geometry:
        """Of `conv`, at every `step`-th of its output frames."""
        assert not isinstance(conv.padding, str)
        stride = (conv.stride[0] * step, *conv.stride[1:])
        return cls(stride, tuple(conv.padding), tuple(conv.dilation), conv.groups)

    def pads_within(self, kernel: Sequence[int]) -> bool:
        """Whether no position of the kernel lies in the padding alone."""
        each = zip(self.padding, kernel, self.dilation, strict=True)
        return all(p <= (k - 1) * d for p, k, d in each)


class Convolving:
    """What the kernels are told of a convolution that they know; without its bias.

    Args:
        weight: (F, C / groups, [kT,] kH, kW).
        maps: Of the maps that it is of.
    """

    without_groups = "direct"

    def __init__(
        self, weight: Tensor, geometry: Geometry, maps: torch.dtype = torch.float32
    ) -> None:
        self.maps, groups = maps, geometry.groups
        self.ndim, self.filters, self.inputs = weight.ndim, len(weight), weight.shape[1] * groups
        self.kernel, self.dilation = over_time(weight.shape[2:]), over_time(geometry.dilation)
        self.stride = over_time(geometry.stride)
        self.padding = over_time(geometry.padding, 0)
        self.reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True)]
        self.kind = self.without_groups if groups == 1 else "depthwise"
        self.weight, self.moves = self.told_of(weight)
        self._of_size = lru_cache(256)(self._bound)
        self._sizes = lru_cache(64)(self._size_of)

    def told_of(self, weight: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """The weights as the kernel reads them, and how it moves."""
        if self.kind == "depthwise":
            weights = dict(channels=self.filters, kernel=self.kernel[0], taps=taps_of(weight))
            return weights, dict(step=self.stride[0], stride=self.stride[-1])
        # What a row of the kernel reads lies side by side.
        row = self.inputs * (self.kernel[-1] if self.dilation[-1] == 1 else 1)
        run = piece_of(row, step_of(self.maps))
        runs = self.inputs * math.prod(self.kernel) // run
        panels = panels_of(weight, row, self.maps)
        weights = dict(inputs=self.inputs, filters=self.filters, weight=panels)
        return weights, dict(runs=runs, run=run, **self.geometry())

    def geometry(self) -> dict[str, Sequence[int]]:
        return dict(
            kernel=self.kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )

    def library(self, maps: torch.dtype) -> dict[str, Function] | None:
        return library(maps) if maps == self.maps else None

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel reads such maps, and is there."""
        whole = x.ndim == self.ndim and x.shape[1] >= self.inputs and x.numel() > 0
        here = whole and are_maps(x) and self.library(x.dtype) is not None
        # What is smaller than the kernel is torch's to refuse.
        return here and min(self._sizes(x.shape)) > 0

    def __call__(
        self, x: Tensor, finish: Finish, gates: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        """The convolution of x and its `finish`.

        Args:
            x: (N, C_in, [T,] H, W), as `serves` says, channels last.
            gates: (N, columns), contiguous float32.
            residual: As the answer, channels last.
        """
        run, out = self._prepared(x, self.kind, finish)
        run(x=x, gates=gates, residual=residual, out=out)
        return out

    def expanded(self, x: Tensor, finish: Finish, gates: Tensor | None, by: Expander) -> Tensor:
        """The depthwise one of what a pointwise one makes, which is never written as a whole."""
        run, out = self._prepared(x, "expand", finish, by.conv, by.finish, by.between)
        run(x=x, first_gates=by.gates, gates=gates, out=out)
        return out

    def _prepared(
        self,
        x: Tensor,
        kernel: str,
        finish: Finish,
        *first: Any,
    ) -> tuple[Bound, Tensor]:
        """The kernel, told what is the same in all calls with maps of this size; new maps."""
        run, shape = self._of_size(x.shape, x.dtype, kernel, finish, *first)
        layout = LAYOUTS[x.ndim]
        return run, torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)

    def _bound(
        self,
        shape: torch.Size,
        maps: torch.dtype,
        kernel: str,
        finish: Finish,
        first: Convolving | None = None,
        first_finish: Finish | None = None,
        between: Between = NOTHING_BETWEEN,
    ) -> tuple[Bound, tuple[int, ...]]:
        """The kernel for maps of a shape, and that of what it makes."""
        told = {**self.weight, **self.moves, **finish.told}
        if first is not None and first_finish is not None:
            told |= first.weight
            before = {**first_finish.told, **between._asdict()}
            told |= {f"first_{name}": value for name, value in before.items()}
        kernels = self.library(maps)
        assert kernels is not None
        run = kernels[kernel].bind(samples=shape[0], **self.sizes(shape), **told)
        return run, (shape[0], self.filters, *self._sizes(shape)[5 - self.ndim :])

    def sizes(self, shape: torch.Size) -> dict[str, Any]:
        """What the kernel is told of maps of a shape."""
        size = over_time(shape[2:])
        if self.kind == "depthwise":
            return dict(zip(("frames", "height", "width"), size, strict=True), pixel=shape[1])
        return {"from": size, "to": self._sizes(shape), "pixel": shape[1]}

    def _size_of(self, shape: torch.Size) -> tuple[int, ...]:
        """(T, H, W) of the output for an input (N, C, [T,] H, W); 0 or less where it has none."""
        each = zip(over_time(shape[2:]), self.padding, self.reach, self.stride, strict=True)
        return tuple((n + 2 * p - r - 1) // s + 1 for n, p, r, s in each)


def knows(weight: Tensor, geometry: Geometry) -> bool:
    """Whether it has no groups, or is depthwise 3x3 of one or three frames."""
    kernel = tuple(weight.shape[2:])
    if weight.device.type != "cpu" or not weight.numel():
        return False
    if geometry.groups == 1:
        return geometry.pads_within(kernel)
    return (
        geometry.groups == len(weight) >= LANES
        and weight.shape[1] == 1
        and set(geometry.dilation) == {1}
        and kernel[-2:] == (3, 3)
        and over_time(kernel)[0] in (1, 3)
        and geometry.padding == tuple(k // 2 for k in kernel)
        and geometry.stride[-2:] in ((1, 1), (2, 2))
    )


def is_quick(weight: Tensor, groups: int) -> bool:
    """Whether one that it knows is computed faster than by oneDNN, which takes as long to be called
    as small ones to be computed, and does not fill its vectors with an image's channels.
    """
    if groups > 1:
        return True
    # Half of a vector would be in vain.
    if len(weight) <= LANES // 2:
        return False
    if math.prod(weight.shape[2:]) == 1:
        return True
    small = weight.shape[1] < LANES or weight.numel() < SMALL[beside()]
    return small and weight[0].numel() >= FEW


def step_of(maps: torch.dtype) -> int:
    """How many numbers of x and of a filter meet in one instruction."""
    return 2 if maps == torch.bfloat16 else 1


def piece_of(run: int, step: int) -> int:
    """How many of the numbers that lie side by side are taken at once, in whole steps: few enough
    that the weights that meet them stay in a core's first cache, if they can be divided so.
    """
    most = 320 * step // beside()
    parts = (run // n for n in range(1, run + 1) if run % n == 0 and run // n <= most)
    even = (part for part in parts if part >= most // 5 and part % step == 0)
    return max(even, default=run)


def beside() -> int:
    """How many vectors of filters lie side by side."""
    kernels = compiled_kernels()
    return 1 if kernels is None else kernels["vectors"]()


def over_time(numbers: Sequence[int], still: int = 1) -> tuple[int, ...]:
    """For (T, H, W), an image being a clip of one frame, for which a setting is `still`."""
    return (still,) * (3 - len(numbers)) + tuple(numbers)


def panels_of(weight: Tensor, row: int, maps: torch.dtype) -> Tensor:
    """The filters of a convolution in vectors, the numbers of each in the order of memory, `row` of
    them side by side, in whole steps.
    """
    step = step_of(maps)
    rows = weight.detach().to(maps).movedim(1, -1).reshape(len(weight), -1, row)
    steps = F.pad(rows, (0, -row % step)).flatten(1).unflatten(1, (-1, step)).transpose(0, 1)
    filters = steps[:, vectors_of(max(len(weight), LANES)).flatten().clamp(max=len(weight) - 1)]
    return torch.cat([panel.flatten() for panel in filters.split(beside() * LANES, 1)])


def taps_of(weight: Tensor) -> Tensor:
    """The same for a depthwise one."""
    vectors = vectors_of(len(weight))
    return weight.detach().float().flatten(1)[vectors].transpose(1, 2).contiguous()


def vectors_of(channels: int) -> Tensor:
    """The channels of each: the last one begins early, so that it ends with the channels."""
    firsts = torch.arange(0, channels, LANES).clamp(max=channels - LANES)
    return firsts[:, None] + torch.arange(LANES)
