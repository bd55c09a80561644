"""YOWO's detection head: the region layer, its losses, and the boxes that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from vared_mm.iou import have_area
from vared_mm.models.localization.region import (
    ANCHORS,
    RegionLossConfig,
    boxes_in_cells,
    centres,
    corners,
    offsets,
    region_losses,
    split_raw,
)


@MODELS.register_module()
class RegionHead(BaseModule):
    """(N, in_channels, H, W) -> raw numbers (N, A·(5+C), H, W); `region.py` tells their meaning.

    Args:
        anchors: widths and heights in cells.
        loss: settings of `RegionLossConfig`.
        keep: boxes are kept above this confidence,
        nms: and those that a more confident one overlaps by more than this IoU are dropped.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1024,
        anchors: Sequence[Sequence[float]] = ANCHORS,
        loss: Mapping[str, float] | None = None,
        keep: float = 0.005,
        nms: float = 0.4,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes} has to be at least 1")
        for name, value in (("keep", keep), ("nms", nms)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} has to be a number between 0 and 1")
        self.num_classes, self.keep, self.nms = num_classes, keep, nms
        self.loss_config = RegionLossConfig(**(loss or {}))
        # Not in the state dict: a checkpoint of other anchors is none of this model.
        self.register_buffer("anchors", anchor_sizes(anchors), persistent=False)
        self.out = nn.Conv2d(in_channels, len(anchors) * (5 + num_classes), 1, bias=False)

    anchors: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)

    def losses(
        self, raw: Tensor, samples: Sequence[Any], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Of raw numbers and the samples' `gt_instances`, whose boxes are pixels of `size` (H, W).

        Raises:
            ValueError: for a label that is no class of the head.
        """
        truths, labels = [], []
        per_cell = pixels_per_cell(raw, size)
        for sample in samples:
            truth = sample.gt_instances
            truth = truth[have_area(truth.bboxes)]
            label = truth.labels.to(raw.device).long()
            if len(label) and not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
                raise ValueError(
                    f"the labels {label.tolist()} are not all among the {self.num_classes} classes "
                    "0, 1, ... of the head; set num_classes of the bbox_head to the data set's"
                )
            truths.append(centres(truth.bboxes.to(raw.device) / per_cell))
            labels.append(label)
        # Half precision, as autocast has it, would overflow in the sizes and in the sums.
        return region_losses(raw.float(), truths, labels, self.anchors, self.loss_config)

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """All B = A·H·W boxes of each sample: (N, B, 4) x1 y1 x2 y2 in pixels of `size` (H, W),
        their confidence (N, B) and the probabilities of their classes (N, B, C)."""
        box, confidence, classes = split_raw(raw.float(), len(self.anchors))
        found = corners(boxes_in_cells(offsets(box), self.anchors)) * pixels_per_cell(raw, size)
        return (
            found.flatten(1, 3),
            confidence.sigmoid().flatten(1),
            classes.softmax(dim=-1).flatten(1, 3),
        )

    def predict(self, raw: Tensor, size: tuple[int, int]) -> list[InstanceData]:
        """Of each sample the kept boxes, the most confident first.

        `bboxes` (K, 4) in pixels of `size`, cut at its edges; `objectness` (K,) the confidence;
        `class_probs` (K, C); `labels` (K,) and `scores` (K,): the likeliest class, and the
        confidence times its probability.
        """
        return [self._kept(*one, size) for one in zip(*self.boxes(raw, size), strict=True)]

    def _kept(
        self, boxes: Tensor, confidence: Tensor, classes: Tensor, size: tuple[int, int]
    ) -> InstanceData:
        # Not at the top: an mmcv whose compiled part is broken still serves all other tasks.
        from mmcv.ops import nms

        above = confidence > self.keep
        boxes, confidence, classes = boxes[above], confidence[above], classes[above]
        kept = nms(boxes, confidence, self.nms)[1]
        best, labels = classes[kept].max(dim=1)
        height, width = size
        return InstanceData(
            bboxes=torch.minimum(boxes[kept].clamp(min=0), boxes.new_tensor([width, height] * 2)),
            objectness=confidence[kept],
            class_probs=classes[kept],
            labels=labels,
            scores=confidence[kept] * best,
        )


def anchor_sizes(anchors: Sequence[Sequence[float]]) -> Tensor:
    if not anchors or any(len(one) != 2 or min(one) <= 0 for one in anchors):
        raise ValueError(
            f"anchors={anchors!r} is no list of positive widths and heights in cells, like "
            f"{ANCHORS[:2]}"
        )
    return torch.tensor(anchors, dtype=torch.float32)


def pixels_per_cell(raw: Tensor, size: tuple[int, int]) -> Tensor:
    (height, width), (rows, columns) = size, raw.shape[2:]
    return raw.new_tensor([width / columns, height / rows] * 2, dtype=torch.float32)
