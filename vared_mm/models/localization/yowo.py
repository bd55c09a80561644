"""The detector: a 3-D trunk on the clip, a 2-D network on its key frame, one head for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from typing_extensions import Self

from vared_mm.method.gate import Gate


@MODELS.register_module()
class YOWO(BaseModel):
    """Actions in the key frame of a clip: the frame number T // 2, counted from 0.

    Inputs are MMAction2's, (N, 1, C, T, H, W) or (N, C, T, H, W). In training a sample's
    `gt_instances` hold `bboxes` (K, 4), x1 y1 x2 y2 in pixels of the input, and `labels` (K,).
    Predictions are its `pred_instances`, whose fields `RegionHead.predict` tells, with boxes in
    pixels of the original frame where the sample knows its `original_shape`.

    Args:
        backbone: 3-D trunk, 32 times smaller than its input in H and W; dynamic with the prefix.
        backbone_2d: network on the key frame, 32 times smaller too.
        fusion: takes the channels of both, e.g. `CFAM`.
        bbox_head: e.g. `RegionHead`.
        freeze_gates: the gates of a dynamic trunk keep what they learned in recognition, as in the
            paper; False trains them, with an `EfficiencyLossHook(correct='matched_box')`.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        backbone_2d: dict[str, Any],
        fusion: dict[str, Any],
        bbox_head: dict[str, Any],
        freeze_gates: bool = True,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone: nn.Module = MODELS.build(backbone)
        self.backbone_2d: nn.Module = MODELS.build(backbone_2d)
        self.fusion: nn.Module = MODELS.build(fusion)
        self.bbox_head: Any = MODELS.build(bbox_head)
        self.freeze_gates = freeze_gates
        self._freeze()

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        clips = inputs.flatten(0, 1) if inputs.ndim == 6 else inputs
        size = (int(clips.shape[-2]), int(clips.shape[-1]))
        raw = self.bbox_head(self.fusion(self.extract_feat(clips)))
        if mode == "tensor":
            return raw
        if data_samples is None:
            raise ValueError(f"mode={mode!r} needs data_samples; without them there is 'tensor'")
        if mode == "loss":
            return self.bbox_head.losses(raw, data_samples, size)
        if mode == "predict":
            for sample, instances in zip(
                data_samples, self.bbox_head.predict(raw, size), strict=True
            ):
                sample.pred_instances = in_original(instances, sample.metainfo, size)
            return list(data_samples)
        raise ValueError(f"mode={mode!r} is none of 'tensor', 'loss' and 'predict'")

    def extract_feat(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> the channels of trunk and 2-D network on one grid of cells."""
        clip = pooled_over_time(self.backbone(clips))
        frame = last_map(self.backbone_2d(clips[:, :, clips.shape[2] // 2]))
        if clip.shape[2:] != frame.shape[2:]:
            raise ValueError(
                f"the trunk makes {tuple(clip.shape[2:])} cells of the clip and the 2-D network "
                f"{tuple(frame.shape[2:])} of its key frame; both have to be as much smaller"
            )
        return torch.cat([clip, frame], dim=1)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.freeze_gates:
            for module in self.modules():
                if isinstance(module, Gate):
                    module.eval().requires_grad_(False)


def pooled_over_time(features: Any) -> Tensor:
    """Of a trunk's maps (N, C, T, H, W) the last, and all on the same cells: SlowFast has two, of
    different T."""
    maps = features if isinstance(features, list | tuple) else [features]
    cells = maps[-1].shape[3:]
    return torch.cat([one.mean(dim=2) for one in maps if one.shape[3:] == cells], dim=1)


def last_map(features: Any) -> Tensor:
    """Of a backbone that gives the maps of several stages, the last."""
    return features[-1] if isinstance(features, list | tuple) else features


def in_original(instances: Any, metainfo: dict[str, Any], size: tuple[int, int]) -> Any:
    """The boxes in pixels of the frame that was resized to `size`, or of which a part was: the
    `crop_quadruple` of MMAction2's crops, x y w h in shares of the frame."""
    if "original_shape" in metainfo:
        (height, width), (rows, columns) = metainfo["original_shape"], size
        x, y, w, h = map(float, metainfo.get("crop_quadruple", (0, 0, 1, 1)))
        scale = instances.bboxes.new_tensor([w * width / columns, h * height / rows] * 2)
        start = instances.bboxes.new_tensor([x * width, y * height] * 2)
        instances.bboxes = instances.bboxes * scale + start
    return instances
