"""The plain network inside a dynamic one: what its speed is compared with."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
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
    kind: type[Any] = nn.Conv3d if isinstance(conv, nn.Conv3d) else nn.Conv2d
    with torch.device("meta"):
        plain = kind(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
            conv.dilation, conv.groups, conv.bias is not None, conv.padding_mode,
        )  # fmt: skip
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain.train(conv.training)
