"""I3D as the VA-RED² paper counts it: Inception-V1 with every kernel inflated in time.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", 2017, with two differences that the
paper's GFLOPs (56.0 at 16 x 256², 112.0 at 32 x 256²) give away: the stem keeps every frame, and
the second pool halves time. N samples, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vared_mm.method.config import is_within
from vared_mm.models.staged_backbone import StagedBackbone

# Output channels of the four branches of a block, at width 1:
# 1x1x1 | 1x1x1 -> 3x3x3 | 1x1x1 -> 3x3x3 | pool -> 1x1x1
BlockWidths = tuple[int, tuple[int, int], tuple[int, int], int]

INCEPTION_BLOCKS: dict[str, BlockWidths] = {
    "mixed_3b": (64, (96, 128), (16, 32), 32),
    "mixed_3c": (128, (128, 192), (32, 96), 64),
    "mixed_4b": (192, (96, 208), (16, 48), 64),
    "mixed_4c": (160, (112, 224), (24, 64), 64),
    "mixed_4d": (128, (128, 256), (24, 64), 64),
    "mixed_4e": (112, (144, 288), (32, 64), 64),
    "mixed_4f": (256, (160, 320), (32, 128), 128),
    "mixed_5b": (256, (160, 320), (32, 128), 128),
    "mixed_5c": (384, (192, 384), (48, 128), 128),
}

# What `frozen_stages` counts, in the order of computation; pools stand where they act.
STAGES: tuple[tuple[str, ...], ...] = (
    ("conv1a_7x7",),
    ("pool1", "conv2b_1x1", "conv2c_3x3"),
    ("pool2", "mixed_3b", "mixed_3c"),
    ("pool3", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f"),
    ("pool4", "mixed_5b", "mixed_5c"),
)


class InceptionBlock(BaseModule):
    """Four branches side by side, concatenated over channels; T, H and W stay as they are.

    Args:
        unit: configs handed to every `ConvModule` (`conv_cfg`, `norm_cfg`, `act_cfg`).
    """

    def __init__(self, in_channels: int, widths: BlockWidths, unit: dict[str, Any]) -> None:
        super().__init__()
        point, (squeeze_1, cube_1), (squeeze_2, cube_2), pooled = widths
        self.out_channels = point + cube_1 + cube_2 + pooled
        self.branch_0 = nn.Sequential(ConvModule(in_channels, point, 1, **unit))
        self.branch_1 = nn.Sequential(
            ConvModule(in_channels, squeeze_1, 1, **unit),
            ConvModule(squeeze_1, cube_1, 3, padding=1, **unit),
        )
        self.branch_2 = nn.Sequential(
            ConvModule(in_channels, squeeze_2, 1, **unit),
            ConvModule(squeeze_2, cube_2, 3, padding=1, **unit),
        )
        self.branch_3 = nn.Sequential(
            nn.MaxPool3d(3, stride=1, padding=1), ConvModule(in_channels, pooled, 1, **unit)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch_0, self.branch_1, self.branch_2, self.branch_3)
        return torch.cat([branch(x) for branch in branches], dim=1)


@MODELS.register_module()
class InceptionI3d(StagedBackbone):
    """Backbone (N, in_channels, T, H, W) -> (N, 1024 * width, T/8, H/32, W/32), rounded up.

    Fits MMAction2's `I3DHead(in_channels=1024 * width)`. Convolutions are named
    `mixed_<stage><block>.branch_<0-3>.<i>.conv`, so that `r"^mixed_.*\\.conv$"` matches the
    convolutions inside the Inception blocks and nothing else; the three of the stem are
    `conv1a_7x7.conv`, `conv2b_1x1.conv` and `conv2c_3x3.conv`.

    Args:
        width: factor on every channel count, which is rounded. A multiple of 1/64 from
            1/32 on.
        conv_cfg: e.g. `dict(type='VaRedConv3d')`; applies to the stem too.
        norm_cfg: the default is BatchNorm with the epsilon of the original.
        frozen_stages: stages 0 (7x7x7 stem) to this one, at most 4 (mixed_5*), are not trained.
            -1 trains all.
        norm_eval: keep BatchNorm statistics fixed in training.
        with_cp: recompute the Inception blocks in the backward pass instead of storing their
            activations. Their BatchNorm statistics then move twice per step.
        init_cfg: as everywhere in MMEngine, e.g. `dict(type='Pretrained', checkpoint=...)`.

    Raises:
        ValueError: for a width or a frozen stage that does not exist.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: float = 1.0,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, with_cp, init_cfg)
        # Then the last block has 1024 * width channels, which is what the head has to be told, and
        # every branch has one at least.
        if not is_within(width, 1 / 32) or (width * 64) % 1:
            raise ValueError(
                f"width={width!r} has to be a multiple of 1/64 from 1/32 on, e.g. 0.25 or 0.5"
            )
        unit: dict[str, Any] = {
            "conv_cfg": conv_cfg or {"type": "Conv3d"},
            "norm_cfg": norm_cfg or {"type": "BN3d", "eps": 1e-3},
            "act_cfg": act_cfg or {"type": "ReLU"},
        }
        stem, stem_out = round(64 * width), round(192 * width)
        self.conv1a_7x7 = ConvModule(in_channels, stem, 7, stride=(1, 2, 2), padding=3, **unit)
        self.pool1 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.conv2b_1x1 = ConvModule(stem, stem, 1, **unit)
        self.conv2c_3x3 = ConvModule(stem, stem_out, 3, padding=1, **unit)
        self.pool2, self.pool3, self.pool4 = (
            nn.MaxPool3d(3, stride=2, padding=1) for _ in range(3)
        )
        channels = stem_out
        for name, widths in INCEPTION_BLOCKS.items():
            block = InceptionBlock(channels, _scale(widths, width), unit)
            self.add_module(name, block)
            channels = block.out_channels
        self.out_channels = channels
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        for name in (name for stage in STAGES for name in stage):
            module = getattr(self, name)
            if self.with_cp and x.requires_grad and isinstance(module, InceptionBlock):
                x = checkpoint(module, x, use_reentrant=False)
            else:
                x = module(x)
        return x

    def stages(self) -> Sequence[Sequence[str]]:
        return STAGES


def _scale(widths: BlockWidths, width: float) -> BlockWidths:
    """Rounded, the last so that all branches together have what the block has."""
    point, (squeeze_1, cube_1), (squeeze_2, cube_2), pooled = widths
    total = round((point + cube_1 + cube_2 + pooled) * width)

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    rest = total - scaled(point) - scaled(cube_1) - scaled(cube_2)
    return (
        scaled(point),
        (scaled(squeeze_1), scaled(cube_1)),
        (scaled(squeeze_2), scaled(cube_2)),
        rest,
    )
