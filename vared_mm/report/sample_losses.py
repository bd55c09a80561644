"""How far a model is from the truth of one sample, from a predicted data sample as a mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.engine.check_labels_hook import is_labelled
from vared_mm.engine.scores import are_probabilities

# As near to 1 as float32 comes: of 1, which a sigmoid rounds to, the loss would be infinite.
BELOW_ONE = 1 - 2**-24


def label_loss(sample: Mapping[str, Any]) -> float:
    """The negative log likelihood of the label; NaN without a single one, or without scores."""
    label, scores = sample.get("gt_label"), sample.get("pred_score")
    if label is None or label.numel() != 1 or not isinstance(scores, Tensor) or scores.ndim != 1:
        return math.nan
    logs = log_probabilities(scores.double())
    return float(-logs[int(label)]) if 0 <= int(label) < len(logs) else math.nan


def log_probabilities(scores: Tensor) -> Tensor:
    """Of probabilities, or of what a softmax makes such; never infinite."""
    if are_probabilities(scores):
        return scores.clamp(min=torch.finfo(torch.float32).tiny).log()
    return scores.log_softmax(0)


def pixel_loss(head: Any, sample: Mapping[str, Any], correct: float) -> float:
    """The mean negative log likelihood over the labelled pixels; 1 - correct without scores,
    as where views were merged to labels."""
    if "seg_logits" not in sample or math.isnan(correct):
        return 1 - correct
    scores = sample["seg_logits"]["data"].float()
    label = sample["gt_sem_seg"]["data"].to(scores.device)[0]
    known = is_labelled(label, head)
    if len(scores) == 1:
        # A single score stands for two classes, and MMSegmentation made a probability of it.
        sure = scores[0, known].clamp(max=BELOW_ONE)
        return float(F.binary_cross_entropy(sure, label[known].float()))
    return float(F.cross_entropy(scores[:, known].T, label[known].long()))
