"""What follows a convolution in evaluation: a BatchNorm and a ReLU, as numbers per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vared_mm.kernels.convolutions import Finish


@dataclass(frozen=True)
class Epilogue:
    """activate(scale · y + bias), y being the convolution's output.

    `scale` and `bias` are (C,) and float32.
    """

    scale: Tensor
    bias: Tensor
    relu: bool

    @classmethod
    def of(cls, conv: _ConvNd, norm: _BatchNorm | None, relu: bool) -> Epilogue:
        ones = conv.weight.new_ones(conv.out_channels, dtype=torch.float32)
        scale, bias = (ones, 0 * ones) if norm is None else affine_of(norm)
        return cls(scale.float(), bias.float(), relu)

    def of_first(self, channels: int) -> Epilogue:
        """That of the first channels."""
        return Epilogue(self.scale[:channels], self.bias[:channels], self.relu)

    def finish(self, columns: int = 0, factor: Sequence[int] = ()) -> Finish:
        """As our convolutions read it, with the gates that multiply too."""
        return Finish(self.scale, self.bias, self.relu, columns, factor)


def affine_of(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """BatchNorm with its running statistics as scale · x + bias, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    bias = -norm.running_mean.double() * scale
    if norm.affine:
        bias = bias + norm.bias.detach().double()
    return scale, bias
