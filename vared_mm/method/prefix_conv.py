"""A convolution that computes its first filters at every R-th frame, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.equations import LAYOUTS, convolved


def prefix_conv(conv: _ConvNd, x: Tensor, width: int, step: int = 1) -> Tensor:
    """The first `width` output channels of `conv(x)`, at output frames 0, step, 2·step, ...

    Exactly those values are computed: frame i of stride s·step is frame i·step of stride s. Grouped
    filters keep their own input channels.

    Args:
        conv: The plain convolution; only its settings and parameters are read.
        x: (N, C_in, [T,] H, W).
        width: 1 to `conv.out_channels`.
        step: Temporal stride factor R, 3-D only.
    """
    x, padding = _padded(conv, x)
    stride = (conv.stride[0] * step, *conv.stride[1:]) if step > 1 else conv.stride
    filters, inputs = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    whole, rest = divmod(width, filters)

    def part(start: int, count: int, groups: int) -> Tensor:
        bias = None if conv.bias is None else conv.bias[start : start + count]
        first = start // filters * inputs
        source = x if groups == conv.groups else x[:, first : first + groups * inputs]
        weight = conv.weight[start : start + count]
        return convolved(source, weight, bias, stride, padding, conv.dilation, groups)

    parts = [part(0, whole * filters, whole)] if whole else []
    if rest:
        parts.append(part(whole * filters, rest, 1))
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _padded(conv: _ConvNd, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The input with what padding the convolution itself cannot add, and the padding it can."""
    none = (0,) * len(conv.kernel_size)
    if conv.padding_mode != "zeros":
        return F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode), none
    if conv.padding == "valid":
        return x, none
    if isinstance(conv.padding, str):
        # "same" refuses strides, which leaving out frames needs.
        sides = conv._reversed_padding_repeated_twice
        low, high = sides[::2][::-1], sides[1::2][::-1]
        return (x, tuple(low)) if low == high else (F.pad(x, sides), none)
    return x, conv.padding


def is_pointwise(conv: _ConvNd) -> bool:
    """Whether each output pixel is a matrix product of one input pixel, without padding."""
    ones = (1,) * len(conv.kernel_size)
    padded = conv.padding not in ("same", "valid") and any(conv.padding)
    return conv.kernel_size == conv.stride == ones and conv.groups == 1 and not padded


def like_layout(y: Tensor, x: Tensor) -> Tensor:
    """`y` channels last if `x` is; a copy only where it is not yet."""
    layout = LAYOUTS[x.ndim]
    return y.contiguous(memory_format=layout) if x.is_contiguous(memory_format=layout) else y


def output_shape(conv: _ConvNd, shape: Sequence[int]) -> tuple[int, ...]:
    """(N, C, [T,] H, W) of the plain convolution's output for an input of `shape`."""
    if conv.padding == "same":
        return (shape[0], conv.out_channels, *shape[2:])
    padding = (0, 0, 0) if isinstance(conv.padding, str) else conv.padding
    size = [
        (n + 2 * padding[i] - conv.dilation[i] * (conv.kernel_size[i] - 1) - 1) // conv.stride[i]
        + 1
        for i, n in enumerate(shape[2:])
    ]
    return (shape[0], conv.out_channels, *size)
