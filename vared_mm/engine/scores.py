"""What heads of recognisers answer: by MMAction2's `average_clips` probabilities, or not yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor, nn

# Probabilities add up to 1 as far as float32, or half precision, tells.
ROUNDING = 1e-2


def one_score_a_class(scores: Tensor, model: nn.Module) -> Tensor:
    """Probabilities (classes,), also of a head whose `average_clips` is None, which gives (views,
    classes), or 'score', which averages before the softmax."""
    if scores.ndim == 1 and are_probabilities(scores):
        return scores
    each = scores.sigmoid() if are_several(model) else scores.softmax(-1)
    return each.view(-1, scores.shape[-1]).mean(0)


def are_several(model: nn.Module) -> bool:
    """Whether a video may have several classes, by the setting of MMAction2's heads."""
    return bool(getattr(getattr(model, "cls_head", None), "multi_class", False))


def are_probabilities(scores: Tensor) -> bool:
    """Whether (classes,) are some already, and not what a softmax makes such."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < ROUNDING


def average_views(model: nn.Module, metrics: Iterable[BaseMetric]) -> None:
    """Where accuracy is measured, a head that would keep the views of a video apart, as they do by
    default, gives their mean probabilities, or of classes that do not exclude each other their mean
    scores, which is told."""
    head: Any = getattr(model, "cls_head", None)
    measures = any(type(metric).__name__ == "AccMetric" for metric in metrics)
    if measures and getattr(head, "average_clips", "") is None:
        head.average_clips = "score" if are_several(model) else "prob"
        print_log(
            "accuracy wants one score a class: model.cls_head.average_clips is None, and "
            f"{head.average_clips!r} is taken", "current", logging.WARNING,
        )  # fmt: skip
