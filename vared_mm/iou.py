"""How much boxes overlap."""

from __future__ import annotations

from torch import Tensor, maximum, minimum


def iou(one: Tensor, other: Tensor, offset: float = 0) -> Tensor:
    """Intersection over union of boxes x1 y1 x2 y2 (..., 4), broadcast; NaN of two empty ones.

    The terms are added in the order of mmcv's compiled operators, so that float32 rounds alike.

    Args:
        offset: Added to widths and heights: 1 where x2 and y2 are the last pixels within the box.
    """
    inner = minimum(one[..., 2:], other[..., 2:]) - maximum(one[..., :2], other[..., :2])
    width, height = (inner + offset).clamp(min=0).unbind(-1)
    intersection = width * height
    return intersection / (area(one, offset) + area(other, offset) - intersection)


def area(boxes: Tensor, offset: float) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 + offset) * (y2 - y1 + offset)


def have_area(boxes: Tensor) -> Tensor:
    """(K,) of boxes x1 y1 x2 y2 (K, 4); a crop leaves empty ones of what it cuts away."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
