"""Convolutions that a kernel of ours computes in the place of oneDNN."""

from __future__ import annotations

import torch
from torch import Tensor

from vared_mm.fast.packed_conv import PackedConv, as_channels_last
from vared_mm.kernels import convolutions, tiled_conv
from vared_mm.kernels.convolutions import Convolving, Finish, Geometry
from vared_mm.kernels.functions import MAPS
from vared_mm.kernels.tiled_conv import Tiling


class NativeConv(PackedConv):
    """A convolution that our kernels know: they compute it where they can, and oneDNN elsewhere."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        maps: torch.dtype,
        kernel: Convolving,
    ) -> None:
        super().__init__(weight, bias, geometry, maps)
        ones = weight.new_ones(len(weight), dtype=torch.float32)
        numbers = 0 * ones if bias is None else bias.float()
        self.plain = {relu: Finish(ones, numbers, relu) for relu in (False, True)}
        self.kernel = kernel

    def serves(self, x: Tensor) -> bool:
        """Whether our kernel computes it of x."""
        return x.dtype == self.weight.dtype and self.kernel.serves(x)

    def __call__(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        if not self.serves(x):
            return super().__call__(x, other, relu)
        return self.kernel(as_channels_last(x), self.plain[relu], None, other)


def packed(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, maps: torch.dtype
) -> PackedConv:
    """The convolution as it is computed fastest, for such maps."""
    kernel = kernel_for(weight, geometry, maps)
    if kernel is None:
        return PackedConv(weight, bias, geometry, maps)
    return NativeConv(weight, bias, geometry, maps, kernel)


def kernel_for(weight: Tensor, geometry: Geometry, maps: torch.dtype) -> Convolving | None:
    """Ours that knows the convolution, if there is one."""
    if maps not in MAPS:
        return None
    if tiled_conv.library(maps) is not None and tiled_conv.knows(weight, geometry):
        return Tiling(weight, geometry)
    if convolutions.knows(weight, geometry) and convolutions.is_quick(weight, geometry.groups):
        return Convolving(weight, geometry, maps)
    return None
