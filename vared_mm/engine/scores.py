"""What heads of recognisers answer: by MMAction2's `average_clips` probabilities, or not yet."""

from __future__ import annotations

from torch import Tensor

# Probabilities add up to 1 as far as float32, or half precision, tells.
ROUNDING = 1e-2


def are_probabilities(scores: Tensor) -> bool:
    """Whether (classes,) are some already, and not what a softmax makes such."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < ROUNDING
