"""Overlap of boxes, and average precision from ranked detections.

Boxes are x1 y1 x2 y2; a pixel's area is 1 and so is that of the box (0, 0, 1, 1), where ends are
pixels that of (0, 0, 0, 0).
"""

from __future__ import annotations

import numpy as np


def iou(one: np.ndarray, other: np.ndarray, pixel_ends: bool = False) -> np.ndarray:
    """Of boxes (..., 4), broadcast; two empty ones do not overlap.

    Args:
        pixel_ends: x2 and y2 are the last pixels within the box, as in the evaluations of PASCAL
            VOC, of YOWO and of mmdet's `use_legacy_coordinate`: a side is x2 - x1 + 1.
    """
    last = np.array([0, 0, 1, 1]) * float(pixel_ends)
    one, other = np.asarray(one, np.float64) + last, np.asarray(other, np.float64) + last
    inner = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = inner.clip(0).prod(axis=-1)
    union = area(one) + area(other) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)


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
