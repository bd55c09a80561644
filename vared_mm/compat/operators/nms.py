"""Non-maximum suppression, hard and soft (Bodla et al., ICCV 2017).

Boxes are (N, 4) as x1, y1, x2, y2; `offset` is added to widths and heights (1 for boxes given in
whole pixels). Hard suppression runs on the CPU wherever the boxes are: each decision depends on
those before it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vared_mm.iou import iou

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


BLOCK = 128
"""Boxes decided one by one before those they suppress are dropped from all the rest at once."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that no kept box of higher score overlaps by more than the threshold."""
    order = scores.cpu().sort(descending=True).indices
    rest = boxes.cpu()[order]
    kept: list[Tensor] = []
    while len(order):
        best = rest[:BLOCK]
        # NaN, the IoU of two empty boxes, is not more than any threshold and does not suppress.
        chosen = _greedy((iou(best[:, None], best, offset) > iou_threshold).numpy())
        kept.append(order[:BLOCK][chosen])
        apart = ~(iou(best[chosen][:, None], rest[BLOCK:], offset) > iou_threshold).any(dim=0)
        order, rest = order[BLOCK:][apart], rest[BLOCK:][apart]
    return torch.cat(kept).to(boxes.device) if kept else order.to(boxes.device)


def _greedy(overlaps: np.ndarray) -> Tensor:
    """Which boxes to keep, from (M, M) who overlaps whom, best first."""
    keep = np.ones(len(overlaps), dtype=bool)
    for number, row in enumerate(overlaps):
        if keep[number]:
            keep[number + 1 :] &= ~row[number + 1 :]
    return torch.from_numpy(keep)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of overlapping boxes instead of dropping them.

    Writes the kept boxes and their new scores to the first rows of `dets` (N, 5) and returns their
    indices. Boxes whose score falls below `min_score` are dropped.
    """
    indices = torch.arange(len(boxes), device=boxes.device)
    rest = torch.cat([boxes, scores[:, None]], dim=1)
    kept: list[Tensor] = []
    while len(indices):
        first = int(rest[:, 4].argmax())
        # The best box moves to the front; the one that was there takes its place.
        rest[[0, first]], indices[[0, first]] = rest[[first, 0]], indices[[first, 0]]
        dets[len(kept)] = rest[0]
        kept.append(indices[0])
        overlap = iou(rest[0, :4], rest[1:, :4], offset)
        rest[1:, 4] *= _decay(overlap, iou_threshold, sigma, method)
        stays = rest[1:, 4] >= min_score
        indices, rest = indices[1:][stays], rest[1:][stays]
    return torch.stack(kept) if kept else indices


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == GAUSSIAN:
        return torch.exp(-(overlap * overlap) / sigma)
    lowered = torch.zeros_like(overlap) if method == NAIVE else 1 - overlap
    return torch.where(overlap >= iou_threshold, lowered, torch.ones_like(overlap))
