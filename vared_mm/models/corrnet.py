"""CorrNet, the network of the paper's Table 4: R(2+1)D-18 that also compares frames.

Wang et al., "Video Modeling with Correlation Networks", 2020, with K = 7 and correlation blocks
after the first three residual stages: 60.61 GMACs at 16 x 128², printed as 60.8.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vared_mm.models.correlation import correlation
from vared_mm.models.r2plus1d import R2Plus1d18

WINDOW = 7
# Channels that a correlation averages over, after stages 1, 2, 3: 16, 32, 32 groups at 64 base
# channels.
CHANNELS_PER_GROUP = (1, 1, 2)


class CorrelationBlock(BaseModule):
    """Adds to each frame what its correlation with the frame before tells.

    Args:
        channels: C; the correlation sees C/4.
        frames: T of the input; the filter has weights for each frame.
        unit: configs handed to both `ConvModule`s (`conv_cfg`, `norm_cfg`, `act_cfg`).
    """

    def __init__(
        self, channels: int, frames: int, channels_per_group: int, unit: dict[str, Any]
    ) -> None:
        super().__init__()
        inner = channels // 4
        self.groups = inner // channels_per_group
        shifts = WINDOW**2
        self.reduce = ConvModule(channels, inner, 1, **unit)
        # At one, the start is the plain correlation of the two frames.
        self.weight = nn.Parameter(torch.ones(inner, frames, shifts))
        self.expand = ConvModule(self.groups * shifts, channels, 1, **{**unit, "act_cfg": None})
        self.activate = MODELS.build(unit["act_cfg"])

    def forward(self, x: Tensor) -> Tensor:
        frames = self.weight.shape[1]
        if x.shape[2] != frames:
            raise ValueError(
                f"a correlation filter for {frames} frames met {x.shape[2]}: set clip_len of "
                "CorrNet to the frames of a clip"
            )
        now = self.reduce(x)
        # The first frame has none before it and is compared with itself.
        before = torch.cat([now[:, :, :1], now[:, :, :-1]], 2)
        return self.activate(x + self.expand(correlation(before, now, self.weight, self.groups)))


@MODELS.register_module()
class CorrNet(R2Plus1d18):
    """R2Plus1d18 with a correlation block after each of its first three stages.

    The blocks are `correlation<1-3>`, with the convolutions `reduce.conv` and `expand.conv`; all
    other names, and the checkpoints, are those of `R2Plus1d18`.

    Args:
        clip_len: frames of a clip, which the correlation filters are made for.
        base_channels: a multiple of 4.
        **settings: those of `R2Plus1d18`.
    """

    def __init__(self, clip_len: int = 16, base_channels: int = 64, **settings: Any) -> None:
        if clip_len < 1 or base_channels < 1 or base_channels % 4:
            raise ValueError(
                f"clip_len={clip_len} has to be at least 1 and base_channels={base_channels} a "
                "multiple of 4"
            )
        super().__init__(base_channels=base_channels, **settings)
        for stage, each in enumerate(CHANNELS_PER_GROUP):
            frames = -(-clip_len // 2**stage)
            block = CorrelationBlock(base_channels * 2**stage, frames, each, self.unit)
            self.add_module(f"correlation{stage + 1}", block)
        self.freeze()

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        x = super().run_stage(stage, x)
        block = getattr(self, f"correlation{stage + 1}", None)
        return x if block is None else block(x)
