"""R(2+1)D-18 as the VA-RED² paper counts it.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", 2018: every
3-D convolution is a spatial one followed by a temporal one. The paper's GFLOPs (27.7, 55.2, 110.5
at 8, 16, 32 x 128²) give away that all of them are factored, stem and shortcuts too, and that each
has the middle width of its own in- and output channels.
N samples, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vared_mm.method.config import is_whole
from vared_mm.models.staged_backbone import StagedBackbone

BLOCKS = (2, 2, 2, 2)


def middle_channels(in_channels: int, out_channels: int, time: int, side: int) -> int:
    """Width between the two factors that gives them the parameters of the full convolution."""
    full = time * side**2 * in_channels * out_channels
    return full // (side**2 * in_channels + time * out_channels)


class FactoredConv(BaseModule):
    """1 x side x side, then time x 1 x 1; norm and activation after each.

    Args:
        kernel, stride: (in time, in space).
        unit: configs handed to both `ConvModule`s (`conv_cfg`, `norm_cfg`, `act_cfg`).
        activate: whether the activation follows the temporal factor too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        unit: dict[str, Any],
        activate: bool = True,
    ) -> None:
        super().__init__()
        time, side = kernel
        middle = middle_channels(in_channels, out_channels, time, side)
        self.spatial = ConvModule(
            in_channels, middle, (1, side, side), stride=(1, stride[1], stride[1]),
            padding=(0, side // 2, side // 2), **unit,
        )  # fmt: skip
        last = unit if activate else {**unit, "act_cfg": None}
        self.temporal = ConvModule(
            middle, out_channels, (time, 1, 1), stride=(stride[0], 1, 1),
            padding=(time // 2, 0, 0), **last,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.temporal(self.spatial(x))


class FactoredBlock(BaseModule):
    """The basic residual block of two factored convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, unit: dict[str, Any]
    ) -> None:
        super().__init__()
        wide, halve = (in_channels, out_channels), (stride, stride)
        self.conv1 = FactoredConv(*wide, (3, 3), halve, unit)
        self.conv2 = FactoredConv(out_channels, out_channels, (3, 3), (1, 1), unit, activate=False)
        self.downsample = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else FactoredConv(*wide, (1, 1), halve, unit, activate=False)
        )
        self.activate = MODELS.build(unit["act_cfg"])

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.conv2(self.conv1(x)) + self.downsample(x))


@MODELS.register_module()
class R2Plus1d18(StagedBackbone):
    """Backbone (N, in_channels, T, H, W) -> (N, 8 * base_channels, T/8, H/16, W/16), rounded up.

    Fits MMAction2's `I3DHead(in_channels=8 * base_channels)`. Convolutions are named
    `layer<1-4>.<0-1>.conv<1-2>.<spatial|temporal>.conv`; the others are
    `stem.<spatial|temporal>.conv` and the shortcuts
    `layer<2-4>.0.downsample.<spatial|temporal>.conv`.

    Args:
        base_channels: width of stem and first stage, 64 in the paper; fewer for small experiments.
        out_indices: stages whose outputs are returned, 0 to 3; several come as a tuple.
        conv_cfg: e.g. `dict(type='VaRedConv3d')`; applies to stem and shortcuts too.
        frozen_stages: the stem (0) and the stages up to this one (1 to 4) are not trained; -1
            trains all.
        norm_eval: keep BatchNorm statistics fixed in training.
        with_cp: recompute the blocks in the backward pass instead of storing their activations.
            Their BatchNorm statistics then move twice per step.
        init_cfg: as everywhere in MMEngine, e.g. `dict(type='Pretrained', checkpoint=...)`.

    Raises:
        ValueError: for a width or a stage that does not exist.
    """

    def __init__(
        self,
        in_channels: int = 3,
        base_channels: int = 64,
        out_indices: Sequence[int] = (3,),
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(frozen_stages, norm_eval, with_cp, init_cfg)
        stages = range(len(BLOCKS))
        if not is_whole(base_channels, 1):
            raise ValueError(f"base_channels={base_channels!r} has to be a number, at least 1")
        if not out_indices or not set(out_indices) <= set(stages):
            raise ValueError(f"out_indices={out_indices} has to name some of {list(stages)}")
        self.out_indices = tuple(out_indices)
        self.unit = unit = {
            "conv_cfg": conv_cfg or {"type": "Conv3d"},
            "norm_cfg": norm_cfg or {"type": "BN3d"},
            "act_cfg": act_cfg or {"type": "ReLU"},
        }
        self.stem = FactoredConv(in_channels, base_channels, (3, 7), (1, 2), unit)
        channels = base_channels
        for stage, count in enumerate(BLOCKS):
            width = base_channels * 2**stage
            blocks = [
                FactoredBlock(
                    channels if i == 0 else width, width, 2 if stage and i == 0 else 1, unit
                )
                for i in range(count)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            channels = width
        self.freeze()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.stem(x)
        outputs = []
        for stage in range(len(BLOCKS)):
            x = self.run_stage(stage, x)
            if stage in self.out_indices:
                outputs.append(x)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        for block in getattr(self, f"layer{stage + 1}"):
            saves = self.with_cp and x.requires_grad
            x = checkpoint(block, x, use_reentrant=False) if saves else block(x)
        return x

    def stages(self) -> Sequence[Sequence[str]]:
        return [["stem"], *([f"layer{i + 1}"] for i in range(len(BLOCKS)))]
