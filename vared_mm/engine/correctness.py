"""μ0 of the efficiency loss by name: which samples of a batch the model has right.

Each entry of `CORRECT` is a context manager over one forward pass of a model; it gives a function
from the batch's data samples to a Boolean tensor (N,), called after the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.engine.correct_localization import matched_box
from vared_mm.engine.correct_segmentation import pixels

Judge = Callable[[list[Any]], Tensor]


@contextmanager
def top1(model: nn.Module) -> Iterator[Judge]:
    """Recognition: the label with the highest score of `model.cls_head` is the true one.

    With soft or several labels, it is one of the largest. Of several views, all have to be right.
    """
    head = getattr(model, "cls_head", None)
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"correct='top1' reads the scores of a cls_head, which {type(model).__name__} lacks; "
            f"choose another of {sorted(CORRECT)}"
        )
    seen: list[Tensor] = []
    handle = head.register_forward_hook(lambda module, args, scores: seen.append(scores))
    try:
        yield lambda samples: right_labels(seen[-1].detach(), [s.gt_label for s in samples])
    finally:
        handle.remove()


def right_labels(scores: Tensor, labels: list[Tensor]) -> Tensor:
    """Scores (N·views, classes) against N labels, an index or a score for each class."""
    best = scores.argmax(1).view(len(labels), -1)
    rows = []
    for label, answers in zip(labels, best, strict=True):
        label = label.to(scores.device).flatten()
        rows.append((answers == label if len(label) == 1 else label[answers] == label.max()).all())
    return torch.stack(rows)


@contextmanager
def always(model: nn.Module) -> Iterator[Judge]:
    """Every sample pays for what it computes."""
    device = next(model.parameters()).device
    yield lambda samples: torch.ones(len(samples), dtype=torch.bool, device=device)


CORRECT: dict[str, Callable[[nn.Module], AbstractContextManager[Judge]]] = {
    "top1": top1,
    "always": always,
    "matched_box": matched_box,
    "pixels": pixels,
}
