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


def are_probabilities(scores: Tensor) -> bool:
    """Whether (classes,) are some already, and not what a softmax makes such."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < ROUNDING


def average_views(model: nn.Module, metrics: Iterable[BaseMetric]) -> None:
    """Where accuracy is measured, a head that would keep the views of a video apart, as they do by
    default, gives their mean probabilities, which is told."""
    head: Any = getattr(model, "cls_head", None)
    measures = any(type(metric).__name__ == "AccMetric" for metric in metrics)
    if measures and getattr(head, "average_clips", "") is None:
        head.average_clips = "prob"
        print_log(
            "accuracy wants one score a class: model.cls_head.average_clips is None, and 'prob' is "
            "taken", "current", logging.WARNING,
        )  # fmt: skip
