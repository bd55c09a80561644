"""Overlap of boxes, and average precision from ranked detections.

Boxes are x1 y1 x2 y2; a pixel's area is 1 and so is that of the box (0, 0, 1, 1), where ends are
pixels that of (0, 0, 0, 0).
"""

from __future__ import annotations

import numpy as np
import torch

from vared_mm.iou import iou


def box_iou(one: np.ndarray, other: np.ndarray, pixel_ends: bool = False) -> np.ndarray:
    """Of boxes (..., 4), broadcast, in float64; two empty ones do not overlap.

    Args:
        pixel_ends: x2 and y2 are the last pixels within the box, as in the evaluations of PASCAL
            VOC, of YOWO and of mmdet's `use_legacy_coordinate`: a side is x2 - x1 + 1.
    """
    a, b = (torch.from_numpy(np.array(boxes, np.float64, order="C")) for boxes in (one, other))
    return iou(a, b, offset=float(pixel_ends)).nan_to_num(0).numpy()


def right_ones(
    scores: np.ndarray, truth: np.ndarray, overlap: np.ndarray, threshold: float
) -> np.ndarray:
    """Which detections (D,) count as right.

    A detection finds the true thing `truth` (D,) that it overlaps most, by `overlap` (D,), if that
    is at least the threshold. Of those that find the same, the one with the highest score is
    right, the others are duplicates and wrong.
    """
    order = np.argsort(-scores, kind="stable")
    finders = order[overlap[order] >= threshold]
    first = np.unique(truth[finders], return_index=True)[1]
    right = np.zeros(len(scores), dtype=bool)
    right[finders[first]] = True
    return right


def average_precision(scores: np.ndarray, right: np.ndarray, total: int) -> float:
    """Area under the precision-recall curve, interpolated at every point; NaN without any truth.

    Args:
        total: how many there are to be found.
    """
    if not total:
        return float("nan")
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    # At a recall counts the best precision that this recall or a greater one has.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[np.diff(hits, prepend=0) > 0].sum() / total)
