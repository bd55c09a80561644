"""The cheap operations of a convolution, which rebuild what is not computed (section 3.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.config import DynamicConfig
from vared_mm.method.equations import strides, widths


class CheapOperations(nn.Module):
    """Φc and Φt of one convolution, one set per path that leaves something out.

    Φt starts as identity, a rebuilt frame as a copy of its neighbour. Φc starts near zero: a
    channel is no copy of an unrelated one.
    """

    def __init__(self, conv: _ConvNd, config: DynamicConfig, axes: tuple[str, ...]) -> None:
        super().__init__()
        side, c = config.cheap_kernel, conv.out_channels
        kernel = (1, side, side)[-len(conv.kernel_size) :]
        self.channel, self.time = nn.ParameterList(), nn.ParameterList()
        if "channel" in axes:
            for k in widths(c, config.search_space)[1:]:
                self.channel.append(nn.Parameter(conv.weight.new_empty(c - k, 1, *kernel)))
        if "time" in axes:
            for r in strides(config.search_space)[1:]:
                self.time.append(nn.Parameter(conv.weight.new_empty(r - 1, c, 1, *kernel)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """To the start, as torch's own layers do it."""
        for weight in self.channel:
            nn.init.normal_(weight, std=1e-2 / weight.shape[-1])
        for weight in self.time:
            middle = weight.shape[-1] // 2
            nn.init.zeros_(weight)[..., middle, middle] = 1

    def extra_repr(self) -> str:
        return f"channel: {[tuple(w.shape) for w in self.channel]}, time: " + (
            f"{[tuple(w.shape) for w in self.time]}"
        )
