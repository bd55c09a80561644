"""The 2-D network of YOWO: YOLOv2 on Darknet-19, up to its last convolution.

Redmon & Farhadi, "YOLO9000", 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

# Output channels at width 1, "M" a max pool; 3x3 and 1x1 convolutions take turns within a stage.
EARLY = (32, "M", 64, "M", 128, 64, 128, "M", 256, 128, 256, "M", 512, 256, 512, 256, 512)
LATE = ("M", 1024, 512, 1024, 512, 1024)
PASSED = 64
STRIDE = 32


@MODELS.register_module()
class Darknet19(BaseModule):
    """Images (N, 3, H, W) -> (N, out_channels, H/32, W/32).

    Args:
        out_channels: 425 in the original, which has 5 boxes of 85 numbers there.
        width: factor on every other channel count, for small experiments. A multiple of 1/32.
        norm_cfg, act_cfg: as of mmcv's `ConvModule`; BatchNorm and a leaky ReLU by default.

    Raises:
        ValueError: for a width that does not exist, and images whose sides are no multiples of 32.
    """

    def __init__(
        self,
        out_channels: int = 425,
        width: float = 1.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if width <= 0 or (width * 32) % 1:
            raise ValueError(f"width={width} has to be a positive multiple of 1/32, e.g. 0.25")
        unit: dict[str, Any] = {
            "norm_cfg": norm_cfg or {"type": "BN"},
            "act_cfg": act_cfg or {"type": "LeakyReLU", "negative_slope": 0.1},
        }
        early, late, passed = (int(width * n) for n in (512, 1024, PASSED))
        self.early = stack(3, EARLY, width, unit)
        self.late = stack(early, LATE, width, unit)
        self.detect = nn.Sequential(*(ConvModule(late, late, 3, padding=1, **unit) for _ in "ab"))
        self.passed = ConvModule(early, passed, 1, **unit)
        self.fuse = ConvModule(4 * passed + late, late, 3, padding=1, **unit)
        self.out = nn.Conv2d(late, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % STRIDE or x.shape[-1] % STRIDE:
            raise ValueError(
                f"Darknet19 takes images whose sides are multiples of {STRIDE}, as 224 x 224; "
                f"came {x.shape[-2]} x {x.shape[-1]}"
            )
        early = self.early(x)
        # Four pixels of the finer map become four channels of the coarser one.
        fine = F.pixel_unshuffle(self.passed(early), 2)
        return self.out(self.fuse(torch.cat([fine, self.detect(self.late(early))], dim=1)))


def stack(
    channels: int, layers: tuple[int | str, ...], width: float, unit: dict[str, Any]
) -> nn.Sequential:
    modules: list[nn.Module] = []
    kernel = 3
    for layer in layers:
        if isinstance(layer, str):
            modules.append(nn.MaxPool2d(2))
            kernel = 3
            continue
        out = int(width * layer)
        modules.append(ConvModule(channels, out, kernel, padding=kernel // 2, **unit))
        channels, kernel = out, 4 - kernel
    return nn.Sequential(*modules)
