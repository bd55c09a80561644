"""Pointwise and depthwise convolutions of our own, convolutions.cpp, in the place of oneDNN's.

oneDNN's take as long to be called as X3D's small maps take to be computed, and cannot multiply by a
gate's value: here BatchNorm, gates, the residual and ReLU cost no pass over the maps.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.packed_conv import Geometry, PackedConv, channels_last, new_maps, output_size_of
from vared_mm.kernels.loading import Source, loaded

SOURCE = Source.read(Path(__file__).with_name("convolutions.cpp"))
LANES = 16
# Vectors of filters that lie side by side.
PANEL = 3


class EpilogueStruct(Structure):
    _fields_ = (
        ("scale", c_void_p),
        ("bias", c_void_p),
        *((name, c_long) for name in ("relu", "gates", "columns")),
        ("column", c_long * 2),
    )


class PointwiseStruct(Structure):
    _fields_ = (("inputs", c_long), ("filters", c_long), ("weight", c_void_p))


class DepthwiseStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "kernel", "step", "stride")),
        ("taps", c_void_p),
    )


class LinesStruct(Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("samples", "frames", "rows", "pixels"),
            *("sample_pitch", "frame_pitch", "row_pitch", "pixel_pitch"),
        )
    )


class ClipStruct(Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("samples", "frames", "height", "width", "pixel"),
            *("out_frames", "out_height", "out_width"),
        )
    )


def library() -> ctypes.CDLL | None:
    """The compiled convolutions; None without a compiler, see `vared_mm.native`, or AVX-512."""
    return compiled_kernels() if suits() else None


@cache
def suits() -> bool:
    """Whether they are faster than oneDNN here: they want 16 floats in one register."""
    kernels = compiled_kernels()
    return kernels is not None and bool(kernels.suits())


@cache
def compiled_kernels() -> ctypes.CDLL | None:
    """They answer the same on every processor."""
    finish = POINTER(EpilogueStruct)
    first, second, clip = POINTER(PointwiseStruct), POINTER(DepthwiseStruct), POINTER(ClipStruct)
    maps = c_void_p, c_void_p, c_void_p, c_void_p, c_long
    return loaded(
        SOURCE,
        pointwise=(first, finish, POINTER(LinesStruct), *maps),
        depthwise=(second, finish, clip, *maps),
        expand=(first, finish, second, finish, clip, *maps),
    )


class Finish:
    """An epilogue as the kernels read it: with `columns` the product of those gates multiplies."""

    def __init__(self, epilogue: Epilogue, gates: int = 0, columns: Sequence[int] = ()) -> None:
        # Held here: the pointers point into them.
        self._scale, self._bias = epilogue.scale.contiguous(), epilogue.bias.contiguous()
        self.struct = EpilogueStruct(
            self._scale.data_ptr(), self._bias.data_ptr(), epilogue.relu, gates, len(columns),
            (c_long * 2)(*columns),
        )  # fmt: skip


class Expander(NamedTuple):
    """The pointwise convolution before a depthwise one, and what follows it."""

    conv: NativeConv
    finish: Finish
    gates: Tensor | None


class NativeConv(PackedConv):
    """A convolution that one of our kernels computes where it can, and oneDNN elsewhere."""

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
        super().__init__(weight, bias, geometry)
        ones = weight.new_ones(len(weight), dtype=torch.float32)
        numbers = 0 * ones if bias is None else bias.float()
        self.plain = {relu: Finish(Epilogue(ones, numbers, relu), 0) for relu in (False, True)}
        self._sizes: dict[torch.Size, tuple[tuple[int, ...], Structure]] = {}
        if geometry.groups == 1:
            self._laid_out = panels_of(weight)
            self._struct: Structure = pointwise_struct(weight, self._laid_out)
        else:
            self._laid_out = taps_of(weight)
            self._struct = depthwise_struct(weight, geometry, self._laid_out)

    def __call__(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        if not kernels_serve(x):
            return super().__call__(x, other, relu)
        return self.finished(x, self.plain[relu], None, other)

    def finished(
        self, x: Tensor, finish: Finish, gates: Tensor | None, other: Tensor | None
    ) -> Tensor:
        """activate(factor · scale · conv(x) + bias + other), for `kernels_serve(x)`."""
        x = channels_last(x)
        shape, struct = self._sizes_of(x.shape)
        out = new_maps(x, shape)
        self._kernel()(
            self._struct, finish.struct, struct, x.data_ptr(),
            None if gates is None else gates.data_ptr(),
            None if other is None else other.data_ptr(), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out

    def expanded(self, x: Tensor, finish: Finish, gates: Tensor | None, by: Expander) -> Tensor:
        """The depthwise one of what a pointwise one makes, which is never written as a whole."""
        x = channels_last(x)
        shape, struct = self._sizes_of(x.shape)
        out = new_maps(x, shape)
        kernels = library()
        assert kernels is not None
        before, now = (None if g is None else g.data_ptr() for g in (by.gates, gates))
        kernels.expand(
            by.conv._struct, by.finish.struct, self._struct, finish.struct, struct, x.data_ptr(),
            before, now, out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out

    def _kernel(self) -> Callable:
        kernels = library()
        assert kernels is not None
        return kernels.pointwise if self.geometry.groups == 1 else kernels.depthwise

    def _sizes_of(self, x: torch.Size) -> tuple[tuple[int, ...], Structure]:
        """The shape of the output, and what the kernel is told of it."""
        if x not in self._sizes:
            g = self.geometry
            size = output_size_of(x[2:], self.weight.shape[2:], g.stride, g.padding, g.dilation)
            struct = (lines_of if g.groups == 1 else clip_of)(x, size, g)
            self._sizes[x] = (x[0], len(self.weight), *size), struct
        return self._sizes[x]


def packed(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> PackedConv:
    """The convolution as it is computed fastest."""
    kind = NativeConv if is_native(weight, geometry) else PackedConv
    return kind(weight, bias, geometry)


def is_native(weight: Tensor, geometry: Geometry) -> bool:
    """Whether our kernels know it: pointwise, or depthwise 3x3 of one or three frames."""
    kernel, g = tuple(weight.shape[2:]), geometry
    in_float = weight.dtype == torch.float32 and weight.device.type == "cpu"
    if not in_float or len(weight) < LANES or set(g.dilation) != {1}:
        return False
    if g.groups == 1:
        return math.prod(kernel) == 1 and not any(g.padding)
    frames = kernel[0] if len(kernel) == 3 else 1
    return (
        g.groups == len(weight)
        and weight.shape[1] == 1
        and kernel[-2:] == (3, 3)
        and frames in (1, 3)
        and g.padding == tuple(k // 2 for k in kernel)
        and g.stride[-2:] in ((1, 1), (2, 2))
    )


def kernels_serve(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.numel() > 0
        and x.device.type == "cpu"
        and library() is not None
    )


def panels_of(weight: Tensor) -> Tensor:
    """The filters of a pointwise convolution in vectors."""
    filters = weight.detach().float().flatten(1).t()[:, vectors_of(len(weight)).flatten()]
    return torch.cat([panel.flatten() for panel in filters.split(PANEL * LANES, 1)])


def taps_of(weight: Tensor) -> Tensor:
    """The same for a depthwise one."""
    vectors = vectors_of(len(weight))
    return weight.detach().float().flatten(1)[vectors].transpose(1, 2).contiguous()


def vectors_of(channels: int) -> Tensor:
    """The channels of each: the last one begins early, so that it ends with the channels."""
    firsts = torch.arange(0, channels, LANES).clamp(max=channels - LANES)
    return firsts[:, None] + torch.arange(LANES)


def pointwise_struct(weight: Tensor, laid_out: Tensor) -> PointwiseStruct:
    return PointwiseStruct(weight.shape[1], len(weight), laid_out.data_ptr())


def depthwise_struct(weight: Tensor, geometry: Geometry, laid_out: Tensor) -> DepthwiseStruct:
    frames, step = (weight.shape[2], geometry.stride[0]) if weight.ndim == 5 else (1, 1)
    return DepthwiseStruct(len(weight), frames, step, geometry.stride[-1], laid_out.data_ptr())


def lines_of(x: torch.Size, size: tuple[int, ...], geometry: Geometry) -> LinesStruct:
    """The output's pixels in the longest lines along which neighbours are as far apart in x."""
    (n, channels, *_), strides = x, geometry.stride
    clip = x[2:] if len(x) == 5 else (1, *x[2:])
    frames, rows, pixels = size if len(size) == 3 else (1, *size)
    step, down, along = strides if len(strides) == 3 else (1, *strides)
    row = clip[2] * channels
    frame, sample = clip[1] * row, math.prod(clip) * channels
    if (down, along) == (1, 1):
        rows, pixels = 1, rows * pixels
        if step == 1:
            frames, pixels = 1, frames * pixels
    return LinesStruct(n, frames, rows, pixels, sample, step * frame, down * row, along * channels)


def clip_of(x: torch.Size, size: tuple[int, ...], geometry: Geometry) -> ClipStruct:
    clip = x[2:] if len(x) == 5 else (1, *x[2:])
    return ClipStruct(x[0], *clip, x[1], *(size if len(size) == 3 else (1, *size)))
