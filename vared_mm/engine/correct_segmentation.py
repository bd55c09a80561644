"""μ0 of the efficiency loss for semantic segmentation, where no image is all right or all wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.engine.check_labels_hook import decode_head, is_labelled

PerImage = Callable[[Any, list[Any]], Tensor]


def pixels(model: nn.Module) -> tuple[nn.Module, PerImage, PerImage]:
    """The images whose pixel accuracy is not below the batch's median, and what it lacks to 1.

    About half of a batch, whatever the network has learned so far: those of which it knows more
    than of the others.
    """
    head = decode_head(model)
    # The losses call the head's `forward`, past its hooks.
    scores = getattr(head, "conv_seg", None)
    if not isinstance(scores, nn.Module):
        raise ValueError(
            f"correct='pixels' reads the scores of decode_head.conv_seg, which "
            f"{type(head).__name__} lacks; choose correct='always'"
        )

    def right(answer: Tensor, samples: list[Any]) -> Tensor:
        labels = [sample.gt_sem_seg.data for sample in samples]
        return upper_half(pixel_accuracy(head, answer.detach(), labels))

    def loss(answer: Tensor, samples: list[Any]) -> Tensor:
        return 1 - pixel_accuracy(head, answer.detach(), [s.gt_sem_seg.data for s in samples])

    return scores, right, loss


def pixel_accuracy(head: Any, scores: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """(N,) from scores (N, classes, h, w) and N labels (1, H, W), in float64.

    An image without a labelled pixel has accuracy 0.
    """
    rows = []
    # One image after the other: at full size, the scores of 150 classes are large.
    for own, label in zip(scores.split(1), labels, strict=True):
        answer = predicted(head, own, label.shape[-2:])
        valid = is_labelled(label, head)
        rows.append((answer == label)[valid].double().sum() / valid.sum().clamp(min=1))
    return torch.stack(rows)


def predicted(head: Any, scores: Tensor, size: Sequence[int]) -> Tensor:
    """(1, H, W) labels from scores (1, classes, h, w), as MMSegmentation makes them."""
    full = F.interpolate(
        scores.float(), tuple(size), mode="bilinear", align_corners=head.align_corners
    )
    return best(head, full)


def best(head: Any, scores: Tensor) -> Tensor:
    """(N, ...) classes from scores (N, classes, ...)."""
    # A single score stands for two classes.
    return scores[:, 0].sigmoid() > head.threshold if scores.shape[1] == 1 else scores.argmax(1)


def upper_half(accuracy: Tensor) -> Tensor:
    """Not below the median, which of an even number lies half-way; and not all wrong."""
    return (accuracy >= accuracy.quantile(0.5)) & (accuracy > 0)
