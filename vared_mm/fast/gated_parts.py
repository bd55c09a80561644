"""A convolution of CGNet in a prepared model: both its parts run, the second is masked."""

from __future__ import annotations

import torch
from torch import Tensor

from vared_mm.fast.branch import finished
from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.native_conv import packed
from vared_mm.fast.packed_conv import as_channels_last
from vared_mm.kernels.convolutions import Geometry
from vared_mm.rivals.cgnet import _ChannelGated


class GatedParts:
    """activate(norm(Yp + d · (Y - Yp)) + other), both parts as convolutions laid out once."""

    def __init__(self, conv: _ChannelGated, epilogue: Epilogue, maps: torch.dtype) -> None:
        n, weight = conv.base, conv.weight.detach()
        bias = None if conv.bias is None else conv.bias.detach()
        self.conv, self.epilogue = conv, epilogue
        self.first = packed(weight[:, :n], bias, Geometry.of(conv), maps)
        self.rest = packed(weight[:, n:], None, Geometry.of(conv), maps)

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        x, n = as_channels_last(x), self.conv.base
        y = self.first(as_channels_last(x[:, :n]))
        rest = self.rest(as_channels_last(x[:, n:]))
        return finished(
            y.addcmul(self.conv.gate(y).detach().to(y.dtype), rest), self.epilogue, other
        )
