"""Channel fusion and attention: what joins the clip's features to the key frame's (YOWO, 3.1).

N samples, C channels, H x W cells.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


def gram_attention(x: Tensor) -> Tensor:
    """Each channel of (N, C, H, W) as a mean of all, weighted by how little it is like them.

    The weights are softmax(max(e) - e) along each row of the Gram matrix e (C, C).
    """
    flat = x.flatten(2)
    energy = flat @ flat.transpose(1, 2)
    # softmax(max - e) is softmax(-e), which subtracts the greatest by itself.
    return ((-energy).softmax(dim=-1) @ flat).view_as(x)


class ChannelAttention(nn.Module):
    """x + γ · attention(x); γ starts at 0, so that the attention is learned in."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * gram_attention(x)


@MODELS.register_module()
class CFAM(BaseModule):
    """(N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        in_channels: those of the 3-D trunk and of the 2-D branch together.
        channels: 1024 in the original.
        dropout: part of the channels that training drops before the last convolution.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 1024,
        dropout: float = 0.1,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = in_channels
        unit: dict[str, Any] = {"norm_cfg": norm_cfg or {"type": "BN"}}
        self.squeeze = ConvModule(in_channels, channels, 1, **unit)
        self.before = ConvModule(channels, channels, 3, padding=1, **unit)
        self.attention = ChannelAttention()
        self.after = ConvModule(channels, channels, 3, padding=1, **unit)
        self.out = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.after(self.attention(self.before(self.squeeze(x)))))
