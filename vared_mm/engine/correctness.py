"""μ0 of the efficiency loss by name: which samples of a batch the model has right.

Each entry of `CORRECT` makes a `Judge` of a model: the module whose answer it reads, and functions
from one such answer and the data samples of its batch to a Boolean tensor (N,) and to losses (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.engine.correct_localization import matched_box
from vared_mm.engine.correct_segmentation import pixels
from vared_mm.engine.scores import are_several


class Judge(NamedTuple):
    """`reads` is None where no answer is needed; without `loss`, that of a wrong sample is 1."""

    reads: nn.Module | None
    right: Callable[[Any, list[Any]], Tensor]
    loss: Callable[[Any, list[Any]], Tensor] | None = None

    def losses(self, answer: Any, samples: list[Any]) -> Tensor:
        if self.loss is None:
            return 1 - self.right(answer, samples).float()
        return self.loss(answer, samples).float()


def judged(judge: Judge, answers: Sequence[Any], batches: Sequence[list[Any]]) -> Tensor:
    """(N,) which of all batches' samples are right, from what `judge.reads` answered in the pass.

    Raises:
        ValueError: It was not asked, or not once for each batch.
    """
    return torch.cat([judge.right(*pair) for pair in pairs_of(judge, answers, batches)])


def judged_loss(judge: Judge, answers: Sequence[Any], batches: Sequence[list[Any]]) -> Tensor:
    """(N,) as `judged`, the samples' losses."""
    return torch.cat([judge.losses(*pair) for pair in pairs_of(judge, answers, batches)])


def pairs_of(
    judge: Judge, answers: Sequence[Any], batches: Sequence[list[Any]]
) -> list[tuple[Any, list[Any]]]:
    """Each answer with the samples that it is of.

    Raises:
        ValueError: It was not asked, or not once for each batch.
    """
    if judge.reads is None:
        return [(None, samples) for samples in batches]
    if not answers:
        raise ValueError(
            f"correct reads what {type(judge.reads).__name__} answers, which the model did not "
            "call; choose correct='always'"
        )
    if len(answers) == 1:  # They went through the model as one.
        batches = [[sample for batch in batches for sample in batch]]
    if len(answers) != len(batches):
        raise ValueError(
            f"correct reads what {type(judge.reads).__name__} answers, once for each batch; the "
            f"model called it {len(answers)} times for {len(batches)}, and which answer counts is "
            "not known. Choose correct='always'"
        )
    return list(zip(answers, batches, strict=True))


def top1(model: nn.Module) -> Judge:
    """Recognition: the label with the highest score of `model.cls_head` is the true one.

    With soft or several labels, it is one of the largest. Of several views, all have to be right;
    of several modalities the mean of their softmax scores.
    """
    head = getattr(model, "cls_head", None)
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"correct='top1' reads the scores of a cls_head, which {type(model).__name__} lacks; "
            f"choose another of {sorted(CORRECT)}"
        )
    losses = class_losses if are_several(model) else label_losses
    return Judge(
        head,
        lambda scores, samples: right_labels(fuse(scores), [s.gt_label for s in samples]),
        lambda scores, samples: losses(fuse(scores), [s.gt_label for s in samples]),
    )


def fuse(scores: Any) -> Tensor:
    """(N·views, classes) of one modality, or the logarithm of the mean probabilities of a dict."""
    several = list(scores.values()) if isinstance(scores, Mapping) else [scores]
    if not several or not all(isinstance(one, Tensor) and one.ndim == 2 for one in several):
        raise ValueError(
            "correct='top1' reads scores (N, classes) of the cls_head, or a dict of them; it "
            f"answered {type(scores).__name__}. Choose correct='always'"
        )
    if len(several) == 1:
        return several[0].detach()
    return torch.stack([one.detach().float().softmax(1) for one in several]).mean(0).log()


def right_labels(scores: Tensor, labels: list[Tensor]) -> Tensor:
    """Scores (N·views, classes) against N labels, an index or a score for each class."""
    best = scores.argmax(1).view(len(labels), -1)
    rows = []
    for label, answers in zip(labels, best, strict=True):
        label = label.to(scores.device).flatten()
        rows.append((answers == label if len(label) == 1 else label[answers] == label.max()).all())
    return torch.stack(rows)


def label_losses(scores: Tensor, labels: list[Tensor]) -> Tensor:
    """The cross entropy (N,), mean over views, as `right_labels` takes them."""
    rows = scores.float().log_softmax(1).unflatten(0, (len(labels), -1)).mean(1)
    losses = []
    for label, row in zip(labels, rows, strict=True):
        label = label.to(scores.device).flatten()
        losses.append(-row[label].mean() if len(label) == 1 else -(label * row).sum())
    return torch.stack(losses)


def class_losses(scores: Tensor, labels: list[Tensor]) -> Tensor:
    """As `label_losses`, of classes that do not exclude each other: the binary cross entropy of
    each, mean over them and over views."""
    rows = scores.float().unflatten(0, (len(labels), -1))
    wanted = torch.stack([label.to(rows) for label in labels]).unsqueeze(1).expand_as(rows)
    losses = F.binary_cross_entropy_with_logits(rows, wanted, reduction="none")
    return losses.mean((1, 2))


def always(model: nn.Module) -> Judge:
    """Every sample pays for what it computes."""
    device = next(model.parameters()).device
    return Judge(
        None, lambda answer, samples: torch.ones(len(samples), dtype=torch.bool, device=device)
    )


CORRECT: dict[str, Callable[[nn.Module], Judge]] = {
    "top1": top1,
    "always": always,
    "matched_box": lambda model: Judge(*matched_box(model)),
    "pixels": lambda model: Judge(*pixels(model)),
}
