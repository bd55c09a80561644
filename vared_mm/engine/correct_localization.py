"""μ0 of the efficiency loss for spatio-temporal localization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.iou import have_area
from vared_mm.metrics.average_precision import box_iou
from vared_mm.metrics.localization import CONFIDENT, OVERLAP


def matched_box(model: nn.Module) -> tuple[nn.Module, Callable[[Any, list[Any]], Tensor]]:
    """Key frames whose every true box is found with its class, as Recall and Classif. count it.

    Of a frame without an action there is nothing to find, and it is right.
    """
    head: Any = getattr(model, "bbox_head", None)
    if not hasattr(head, "boxes"):
        raise ValueError(
            f"correct='matched_box' reads the boxes of a bbox_head like RegionHead, which "
            f"{type(model).__name__} lacks; choose correct='always'"
        )

    def right(raw: Tensor, samples: list[Any]) -> Tensor:
        boxes, confidence, class_probs = head.boxes(raw.detach().float(), samples[0].img_shape)
        truths = [s.gt_instances[have_area(s.gt_instances.bboxes)] for s in samples]
        return found_right(boxes, confidence, class_probs, truths)

    return head, right


def found_right(
    boxes: Tensor, confidence: Tensor, class_probs: Tensor, truths: Sequence[Any]
) -> Tensor:
    """(N,) from the boxes (N, B, 4) of N frames, their confidence (N, B) and the probabilities of
    their classes (N, B, C), against the frames' `bboxes` and `labels`."""
    right = []
    for box, sure, probs, truth in zip(
        boxes, confidence > CONFIDENT, class_probs, truths, strict=True
    ):
        if not len(truth.labels) or not sure.any():
            right.append(not len(truth.labels))
            continue
        overlap = box_iou(truth.bboxes.cpu()[:, None], box[sure].cpu())
        labels = probs[sure].argmax(dim=1).cpu().numpy()[overlap.argmax(axis=1)]
        hit = (overlap.max(axis=1) > OVERLAP) & (labels == truth.labels.cpu().numpy())
        right.append(bool(hit.all()))
    return torch.tensor(right, device=boxes.device)
