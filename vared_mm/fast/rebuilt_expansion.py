"""What the two convolutions of an expansion compute and rebuild, in one call.

The kernel is rebuilt_expansion.cpp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vared_mm.fast import native_conv
from vared_mm.fast.branch import Branch
from vared_mm.fast.native_conv import (
    LANES,
    ClipStruct,
    clip_of,
    depthwise_struct,
    panels_of,
    pointwise_struct,
    starts,
    taps_of,
)
from vared_mm.fast.packed_conv import Geometry, new_maps, output_size
from vared_mm.method.layer import _Dynamic
from vared_mm.method.rebuild_native import MOST_PATHS

# The Φ that the kernel knows are of 3 x 3 pixels.
SIDE = 3


class RebuiltExpansion:
    """The branches of a pointwise convolution and the depthwise one after it, of one pattern."""

    def __init__(self, first: Branch, second: Branch) -> None:
        self.first, self.second = first, second
        conv, reader = first.conv, second.conv
        self.segment = segment_of(conv)
        # Column by column, the first channels of its vectors: one of each computed segment.
        places = range(0, first.computed, self.segment)
        columns = [[p + start for p in places] for start in starts(self.segment)]
        weight, taps = conv.weight, reader.weight
        self._kept = [
            torch.cat([panels_of(weight, column) for column in columns]),
            torch.cat([taps_of(taps, column).flatten() for column in columns]),
        ]
        self._pointwise = pointwise_struct(weight, self._kept[0])
        self._depthwise = depthwise_struct(taps, Geometry.of(reader), self._kept[1])
        self._sizes: dict[tuple[torch.Size, int], tuple[tuple[int, ...], ClipStruct]] = {}

    def __call__(self, x: Tensor, before: Tensor, gates: Tensor, every: int = 1) -> Tensor:
        """Each `every`-th frame, of x channels last and the answers of the gates of the two."""
        shape, clip = self._sizes_of(x.shape, every)
        out = new_maps(x, shape)
        kernels = native_conv.library()
        assert kernels is not None
        before_it, after_it = self.first.layer.struct, self.second.layer.struct
        kernels.expand_and_rebuild(
            self._pointwise, before_it, self._depthwise, after_it, self.segment,
            every, clip, x.data_ptr(), before.data_ptr(), gates.data_ptr(), out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out

    def _sizes_of(self, x: torch.Size, every: int) -> tuple[tuple[int, ...], ClipStruct]:
        """The shape of the output, and what the kernel is told of it."""
        if (x, every) not in self._sizes:
            conv = self.second.conv
            size = output_size(conv, x[2:])
            if every > 1:
                size = (math.ceil(size[0] / every), *size[1:])
            struct = clip_of(x, size, Geometry.of(conv))
            self._sizes[x, every] = (x[0], conv.out_channels, *size), struct
        return self._sizes[x, every]


def segment_of(conv: _Dynamic) -> int:
    """The fewest channels that it computes."""
    return conv.widths[-1]


def knows(first: _Dynamic, second: _Dynamic) -> bool:
    """Whether the kernel can rebuild what the two of an expansion compute."""
    segment = segment_of(first)
    return (
        first.dynamic.cheap_kernel == second.dynamic.cheap_kernel == SIDE
        and first.bias is None
        and second.bias is None
        and segment >= LANES
        and segment * math.ceil(first.out_channels / segment) == first.out_channels
        and second.stride[:-2] in ((), (1,))
        and first.axes == second.axes
        and first.dynamic.search_space == second.dynamic.search_space <= MOST_PATHS
    )
