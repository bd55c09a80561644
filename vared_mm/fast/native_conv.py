"""Convolutions that a kernel of ours computes in the place of oneDNN."""

from __future__ import annotations

from dataclasses import astuple

import torch
from torch import Tensor

from vared_mm.fast.packed_conv import Geometry, PackedConv, as_channels_last
from vared_mm.kernels import convolutions
from vared_mm.kernels.convolutions import Convolving, Finish


class NativeConv(PackedConv):
    """A convolution that our kernels know: they compute it where they can, and oneDNN elsewhere."""

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
        super().__init__(weight, bias, geometry)
        ones = weight.new_ones(len(weight), dtype=torch.float32)
        numbers = 0 * ones if bias is None else bias.float()
        self.plain = {relu: Finish(ones, numbers, relu) for relu in (False, True)}
        self.kernel = Convolving(weight, geometry.stride)

    def __call__(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        if not convolutions.serves(x):
            return super().__call__(x, other, relu)
        return self.kernel(as_channels_last(x), self.plain[relu], None, other)


def packed(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> PackedConv:
    """The convolution as it is computed fastest."""
    kind = NativeConv if is_native(weight, geometry) else PackedConv
    return kind(weight, bias, geometry)


def is_native(weight: Tensor, geometry: Geometry) -> bool:
    return convolutions.knows(weight, *astuple(geometry))
