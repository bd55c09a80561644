"""Refuses labels of videos that a recognizer has no class for, and names the sample.

Without it a training ends within a loss that names nothing, and a test counts such samples as
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vared_mm.engine.around_forward import unwrapped
from vared_mm.engine.finite_scores_hook import NAMES

# What MMAction2 gives to a sample whose line has no label.
NO_LABEL = -1


class NoClassError(ValueError):
    """A sample has a label that the model has no class for."""


@HOOKS.register_module()
class CheckClipLabelsHook(Hook):
    """Refuses labels of videos that a recognizer has no class for, before a run, with
    `NoClassError`, which names the sample.

    Without it a training ends within a loss that names nothing, and a test counts such samples as
    wrong. Samples of several labels, and data sets to be tested that have none, pass. `vared-mm
    train`, `test` and `evaluate` have it with every config.
    """

    def __init__(self) -> None:
        # Validation comes again after each epoch.
        self._validates: object = None

    def before_train(self, runner: Runner) -> None:
        check_clip_labels(unwrapped(runner.model), runner.train_dataloader.dataset, learned=True)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        dataset = runner.val_dataloader.dataset
        if dataset is not self._validates:
            check_clip_labels(unwrapped(runner.model), dataset)
            self._validates = dataset

    def before_test(self, runner: Runner) -> None:
        check_clip_labels(unwrapped(runner.model), runner.test_dataloader.dataset)


def check_clip_labels(model: nn.Module, dataset: Any, learned: bool = False) -> None:
    """
    Args:
        learned: Also a data set without labels is refused.

    Raises:
        NoClassError: A label is none of the classes of the model's `cls_head`, if it has one.
    """
    classes = getattr(getattr(model, "cls_head", None), "num_classes", None)
    if not isinstance(classes, int) or not hasattr(dataset, "get_data_info"):
        return
    labels: dict[int, str] = {}
    for name, label in single_labels(dataset):
        labels.setdefault(label, name)
    if set(labels) <= {NO_LABEL} and not learned:
        return
    wrong = sorted(label for label in labels if not 0 <= label < classes)
    if wrong:
        raise NoClassError(
            f"{labels[wrong[0]]} has the label {wrong[0]}, and the model {classes} classes "
            f"(cls_head.num_classes); wanted 0 to {classes - 1}{guess(labels, classes)}"
        )


def single_labels(dataset: Any) -> Iterator[tuple[str, int]]:
    """Of the samples that have one number for a label, with their files."""
    for i in range(len(dataset)):
        info: Mapping[str, Any] = dataset.get_data_info(i)
        label = info.get("label")
        if isinstance(label, Integral):
            yield next((str(info[key]) for key in NAMES if key in info), f"sample {i}"), int(label)


def guess(labels: Mapping[int, str], classes: int) -> str:
    if NO_LABEL in labels:
        return f"; {NO_LABEL} is what a line without a label gets: is it missing there?"
    if 0 not in labels and max(labels) == classes:
        return f"; are the labels counted from 1, to {classes}? They are from 0"
    return "; are the labels of other classes than the config's?"
