"""The plain network inside a dynamic one: what its speed is compared with."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.gated_conv import GatedConv


def static_twin(model: nn.Module) -> nn.Module:
    """A copy whose convolutions with gates are plain ones of the same weights; no gates, no Φ."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, GatedConv):
                setattr(parent, name, plain_conv(child))
    return twin


def plain_conv(conv: _ConvNd) -> _ConvNd:
    settings = conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode
    return conv_of(conv.weight, conv.bias, *settings).train(conv.training)


def conv_of(
    weight: Tensor, bias: Tensor | None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1, padding_mode: str = "zeros",
) -> _ConvNd:  # fmt: skip
    """A plain convolution in evaluation with these parameters."""
    kind: type[Any] = nn.Conv3d if weight.ndim == 5 else nn.Conv2d
    conv = kind(
        weight.shape[1] * groups, len(weight), weight.shape[2:], stride, padding, dilation, groups,
        bias is not None, padding_mode, device="meta",
    )  # fmt: skip
    conv.weight, conv.bias = weight, bias
    return conv.eval()
