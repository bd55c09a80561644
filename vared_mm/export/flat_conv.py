"""Convolutions of (1, k, k) and (k, 1, 1) as 2-D ones.

ONNX Runtime lays the weights of 2-D convolutions out for the processor and passes over 3-D ones.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from vared_mm.fast.static_twin import conv_of
from vared_mm.method.surgery import exchange


class FlatConv(nn.Module):
    """(N, C, T, H, W), as `conv` whose kernel has no extent in time, or none in space."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.in_time = conv.kernel_size[0] > 1
        own = slice(0, 2) if self.in_time else slice(1, 3)
        names = ("stride", "padding", "dilation")
        stride, padding, dilation = (getattr(conv, name)[own] for name in names)
        self.step = conv.stride[0]
        weight = nn.Parameter(conv.weight.squeeze(4 if self.in_time else 2), False)
        self.flat = conv_of(weight, conv.bias, stride, padding, dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_time:
            # Pixels of a frame side by side.
            return self.flat(x.flatten(3)).unflatten(3, x.shape[3:])
        if self.step > 1:
            x = x[:, :, :: self.step]
        frames = self.flat(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def is_flat(conv: nn.Module) -> bool:
    """Whether a `FlatConv` answers as it does."""
    if type(conv) is not nn.Conv3d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    kernel, padding = conv.kernel_size, conv.padding
    if kernel[0] == 1:
        return kernel[1:] != (1, 1) and padding[0] == 0
    return kernel[1:] == conv.stride[1:] == (1, 1) and padding[1:] == (0, 0)


def flattened(network: nn.Module) -> nn.Module:
    """A copy with `FlatConv` wherever it answers the same."""
    new = copy.deepcopy(network)
    convs = [m for m in new.modules() if isinstance(m, nn.Conv3d) and is_flat(m)]
    exchange(new, {id(conv): FlatConv(conv) for conv in convs})
    return new
