"""One way to run a dynamic convolution: the open paths are known, so everything else is prepared.

Symbols as in `vared_mm.method.equations`: k channels and every R-th frame are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.native_conv import NativeConv, packed
from vared_mm.fast.packed_conv import PackedConv, as_channels_last, empty_maps, output_size
from vared_mm.kernels.convolutions import Expander, Finish, Geometry, between, parted
from vared_mm.kernels.rebuild import Rebuilding, kernel_serves
from vared_mm.method.equations import OpenPath, open_paths
from vared_mm.method.layer import Pattern, _Dynamic
from vared_mm.method.rebuild import rebuild

# Filters are computed in whole vectors; what is computed beyond k is thrown away.
VECTOR = 16
# Maps in between that have more numbers are made and finished in pieces, which are still in the
# cache when they are read.
PIECE = 1 << 20


class Branch:
    """The dynamic convolution `conv` and its epilogue for samples that opened `pattern`.

    Args:
        first: So many channels are wanted, all of which the prefix computes; None for all of them.
            Where it is told, one path of the channel axis is open, and our kernels serve the maps.
    """

    def __init__(
        self,
        conv: _Dynamic,
        epilogue: Epilogue,
        pattern: Pattern,
        prefix: PackedConv,
        first: int | None = None,
    ) -> None:
        epilogue = epilogue if first is None else epilogue.of_first(first)
        self.conv, self.epilogue, self.pattern, self.prefix = conv, epilogue, pattern, prefix
        self.channels = first or conv.out_channels
        self.computed, step = conv.extent(pattern)
        one_each = self.channels in (first, self.computed) and sum(pattern) == len(conv.axes)
        # Then the maps are finished where they are.
        self.rebuilds_nothing = one_each and step == 1
        # So many frames are made of themselves alone; 0 where a convolution reads its neighbours.
        self.period = conv.strides[last_open(conv, pattern)] if is_spatial(conv) else 0
        self._rebuilding = rebuilding_of(conv, epilogue, pattern, first)
        # Then our own convolution does all of it; what it may be told as, of a pointwise one.
        self.finish: Finish | None = None
        self._expander: Expander | None = None
        if one_each and conv.bias is None and isinstance(prefix, NativeConv):
            columns = [i for i, is_open in enumerate(pattern) if is_open]
            finish = epilogue.finish(len(pattern), columns)
            if step == 1:
                self.finish = finish
                self._expander = Expander(prefix.kernel, finish, None)
            elif conv.dynamic.cheap_kernel == 3 and self.channels >= VECTOR:
                _, (path,) = open_paths(pattern, conv.out_channels, *conv.cheap_operations())
                rebuilt = between(cast(Tensor, first_of(path.cheap, self.channels)))
                self._expander = Expander(prefix.kernel, finish, None, rebuilt)

    def expander(self, gates: Tensor) -> Expander | None:
        """What a depthwise convolution makes by itself of x what this pointwise one would."""
        return None if self._expander is None else self._expander._replace(gates=gates)

    def __call__(
        self,
        x: Tensor,
        gates: Tensor,
        other: Tensor | None,
        out: Tensor | None = None,
        samples: Sequence[int] | None = None,
        by: Expander | None = None,
    ) -> Tensor:
        """activate(scale · Y + bias + other).

        Args:
            x: (N, C_in, [T,] H, W), channels last; gates: (N, G), contiguous float32.
            out: Where the results go, sample n of x to sample `samples[n]`, which `other` counts
                by too. Without it, to a new tensor in order.
            by: A pointwise convolution that makes of x what this depthwise one reads. Our kernels
                serve both then.
        """
        if self.finish is not None and out is None:
            prefix = cast(NativeConv, self.prefix)
            if by is not None:
                return prefix.kernel.expanded(x, self.finish, gates, by)
            if prefix.serves(x):
                return prefix.kernel(x, self.finish, gates, other)
        size = output_size(self.conv, x.shape[2:])
        if not kernel_serves(x, self.conv.dynamic.cheap_kernel):
            return self._by_torch(x, gates, other, size, out, samples)
        sample = math.prod((self.prefix.weight.shape[0], *size))
        if x.shape[0] * sample <= PIECE or (self.rebuilds_nothing and out is None):
            return self._by_kernel(x, gates, other, size, out, samples, by)
        result = empty_maps(x, (len(x), self.channels, *size)) if out is None else out
        samples = range(len(x)) if samples is None else samples
        whole = result
        if sample > PIECE and self.period and size[0] % self.period == 0:
            parts = size[0] // self.period
            size, sample = (self.period, *size[1:]), sample // parts
            x, whole = short_clips(x, parts), short_clips(whole, parts)
            other = None if other is None else short_clips(other, parts)
            gates, by = parted(gates, parts), None if by is None else by.parted(parts)
            samples = [n * parts + part for n in samples for part in range(parts)]
        piece = max(1, PIECE // sample)
        for start in range(0, len(x), piece):
            own = slice(start, start + piece)
            part = None if by is None else by.of(own)
            self._by_kernel(x[own], gates[own], other, size, whole, samples[own], part)
        return result

    def _by_torch(
        self,
        x: Tensor,
        gates: Tensor,
        other: Tensor | None,
        full: tuple[int, ...],
        out: Tensor | None,
        samples: Sequence[int] | None,
    ) -> Tensor:
        y = self.prefix(x)[:, : self.computed]
        frames = full[0] if x.ndim == 5 else 1
        rows = slice(None) if samples is None else list(samples)
        rebuilt = rebuild(self.conv.rebuild_of(y, gates, self.pattern, frames))
        result = finished(rebuilt, self.epilogue, None if other is None else other[rows])
        if out is None:
            return result
        out[rows] = result
        return out

    def _by_kernel(
        self,
        x: Tensor,
        gates: Tensor,
        other: Tensor | None,
        full: tuple[int, ...],
        out: Tensor | None,
        samples: Sequence[int] | None,
        by: Expander | None,
    ) -> Tensor:
        if by is None:
            y = as_channels_last(self.prefix(x))
        else:
            prefix = cast(NativeConv, self.prefix)
            y = prefix.kernel.expanded(x, prefix.plain[False], None, by)
        if out is None:
            shape = (len(y), self.channels, *full)
            out = y if self.rebuilds_nothing else empty_maps(y, shape)
        samples = range(y.shape[0]) if samples is None else samples
        self._rebuilding(y, gates, other, full, out, samples)
        return out


def is_spatial(conv: _Dynamic) -> bool:
    """Whether each frame of the output is made of the same frame of the input, and no other."""
    time = (conv.kernel_size[0], conv.stride[0], conv.padding[0])
    return conv.weight.ndim == 5 and time == (1, 1, 0)


def last_open(conv: _Dynamic, pattern: Pattern) -> int:
    """Which open path of the time axis computes the fewest frames; 0 without that axis."""
    time = pattern[-conv.dynamic.search_space :] if "time" in conv.axes else (True,)
    return max(i for i, is_open in enumerate(time) if is_open)


def short_clips(x: Tensor, parts: int) -> Tensor:
    """Each clip as that many shorter ones, in the same memory."""
    frames = x.permute(0, 2, 3, 4, 1).unflatten(1, (parts, -1))
    return frames.flatten(0, 1).permute(0, 4, 1, 2, 3)


def packed_prefix(conv: _Dynamic, computed: int, step: int, maps: torch.dtype) -> PackedConv:
    """The convolution of all patterns of one extent: at least `computed` filters, R = `step`."""
    filters, groups = prefix_extent(conv, computed)
    bias = None if conv.bias is None else conv.bias.detach()[:filters]
    geometry = replace(Geometry.of(conv, step), groups=groups)
    return packed(conv.weight.detach()[:filters], bias, geometry, maps)


def prefix_extent(conv: _Dynamic, k: int) -> tuple[int, int]:
    """The filters and groups that the first k output channels need."""
    if conv.groups == 1:
        return min(conv.out_channels, math.ceil(k / VECTOR) * VECTOR), 1
    filters = conv.out_channels // conv.groups
    groups = math.ceil(k / filters)
    if filters == 1:
        groups = min(conv.groups, math.ceil(groups / VECTOR) * VECTOR)
    return groups * filters, groups


def finished(y: Tensor, epilogue: Epilogue, other: Tensor | None) -> Tensor:
    """The epilogue by torch's operations."""
    shape = (1, -1, *[1] * (y.ndim - 2))
    scale, bias = (v.to(y.dtype).view(shape) for v in (epilogue.scale, epilogue.bias))
    y = torch.addcmul(bias, y, scale)
    if other is not None:
        # Not in place: `other` may be of more pixels, or of another type.
        y = y + other
    return y.relu_() if epilogue.relu else y


def rebuilding_of(
    conv: _Dynamic, epilogue: Epilogue, pattern: Pattern, first: int | None
) -> Rebuilding:
    """What the kernel is told of a branch."""
    channel, time = open_paths(pattern, conv.out_channels, *conv.cheap_operations())
    if first is not None:
        channel = [OpenPath(path.column, first, None) for path in channel]
        time = [path._replace(cheap=first_of(path.cheap, first)) for path in time]
    return Rebuilding(
        channel, time, first or conv.out_channels, conv.dynamic.cheap_kernel, len(pattern),
        epilogue.scale, epilogue.bias, epilogue.relu,
    )  # fmt: skip


def first_of(phi: Tensor | None, channels: int) -> Tensor | None:
    """Φ of the time axis for the first channels."""
    return None if phi is None else phi[:, :channels]
