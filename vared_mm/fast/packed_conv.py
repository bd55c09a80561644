"""A convolution whose weight is laid out once, for many calls, with what follows it fused.

Weights are folded and packed for evaluation: no gradient passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.kernels.convolutions import Geometry
from vared_mm.method.equations import LAYOUTS, convolved, in_planes, reads_one_channel
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.suitable import is_plain


def is_packable(conv: nn.Module) -> bool:
    """Whether it pads with zeros, equally on both sides, and is nothing but a convolution.

    One that is prepared already, as a part of two modules, is not prepared again.
    """
    return (
        isinstance(conv, nn.Conv2d | nn.Conv3d)
        and is_itself(conv)
        and "forward" not in vars(conv)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and not hasattr(conv, "parametrizations")
        and not conv._forward_pre_hooks
    )


def is_itself(conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether its class computes what ours or torch's does, and nothing else."""
    if isinstance(conv, GatedConv):
        return type(conv).forward is GatedConv.forward
    return is_plain(conv)


def read_in_planes(conv: _ConvNd) -> None:
    """Lets torch read rightly what it would misread where the convolution is not prepared."""
    is_plain = hasattr(conv, "_conv_forward") and not isinstance(conv, GatedConv)
    if is_plain and reads_one_channel(conv.weight, conv.groups):
        conv._conv_forward = partial(_convolved_in_planes, conv._conv_forward)  # type: ignore[method-assign]


def _convolved_in_planes(run: Callable, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return run(in_planes(x), in_planes(weight), bias)


class PackedConv:
    """y = activate(conv(x) + other), channels last.

    On a CPU oneDNN is called by name: torch itself sends most convolutions of a single clip
    elsewhere, and would lay out the weight in every call.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, geometry: Geometry, maps: torch.dtype
    ) -> None:
        self.weight, self.geometry = weight.to(maps).contiguous(), geometry
        self.bias = None if bias is None else bias.to(maps)
        self._packed: Tensor | None = None
        # oneDNN misreads such maps channels last.
        self._in_planes = reads_one_channel(weight, geometry.groups)
        self._settings = [list(v) for v in (geometry.padding, geometry.stride, geometry.dilation)]

    def __call__(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        """Of the first channels of x, where it has more than are read."""
        inputs = self.weight.shape[1] * self.geometry.groups
        x = as_channels_last(x if x.shape[1] == inputs else x[:, :inputs])
        if x.dtype != self.weight.dtype or not runs_on_onednn(x):
            return self._by_torch(x, other, relu)
        if self._in_planes:
            with torch.autocast("cpu", enabled=False):
                return self._by_torch(x, other, relu)
        if self._packed is None:
            if not self._fits(x):
                # To be refused in torch's words: oneDNN lays out no weight for it.
                return self._by_torch(x, other, relu)
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *self._settings, self.geometry.groups, list(x.shape)
            )
        convolve = torch.ops.mkldnn._convolution_pointwise
        arguments = (self._packed, self.bias, *self._settings, self.geometry.groups)
        activation = "relu" if relu else "none"
        if other is None:
            return convolve.default(x, *arguments, activation, [], "")
        if self.geometry.groups > 1 and x.dtype == torch.bfloat16:
            # What torch calls to add something then knows float32 alone.
            return followed(convolve.default(x, *arguments, "none", [], ""), other, relu)
        return convolve.binary(
            x, other, *arguments, "add", 1.0, activation if relu else None, [], ""
        )

    def _by_torch(self, x: Tensor, other: Tensor | None, relu: bool) -> Tensor:
        g = self.geometry
        y = convolved(x, self.weight, self.bias, g.stride, g.padding, g.dilation, g.groups)
        return followed(as_channels_last(y), other, relu)

    def _fits(self, x: Tensor) -> bool:
        """Whether something comes of maps of this size."""
        g, kernel = self.geometry, self.weight.shape[2:]
        return min(output_size_of(x.shape[2:], kernel, g.stride, g.padding, g.dilation)) > 0


def followed(y: Tensor, other: Tensor | None, relu: bool) -> Tensor:
    """activate(y + other), in place."""
    if other is not None:
        y = y.add_(other)
    return y.relu_() if relu else y


def as_channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=LAYOUTS[x.ndim])


def empty_maps(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=LAYOUTS[len(shape)]
    )


def residual(other: Tensor, conv: _ConvNd, x: Tensor) -> Tensor:
    """What is added to `conv(x)`, in its shape and layout."""
    shape = (x.shape[0], conv.out_channels, *output_size(conv, x.shape[2:]))
    return as_channels_last(other if other.shape == shape else other.expand(shape))


def output_size(conv: _ConvNd, size: torch.Size) -> tuple[int, ...]:
    """([T,] H, W) of the plain convolution's output for an input of `size`."""
    assert not isinstance(conv.padding, str)
    return output_size_of(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation)


@lru_cache(1024)
def output_size_of(*settings: tuple[int, ...]) -> tuple[int, ...]:
    """Of an input's size, a kernel's, its stride, padding and dilation."""
    each = zip(*settings, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)


def runs_on_onednn(x: Tensor) -> bool:
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return x.dtype == torch.float32 or (
        x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
