"""Refuses segmentation labels that the model's classes do not cover, and names the image.

Without it a GPU stops with a device-side assertion that names nothing, and mIoU counts such pixels
as nobody's.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import unwrapped


def decode_head(model: nn.Module) -> Any:
    """The head of an MMSegmentation model whose scores are its answer: the last of a cascade."""
    head = getattr(model, "decode_head", None)
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    if not isinstance(head, nn.Module) or not hasattr(head, "ignore_index"):
        raise ValueError(
            f"wanted a segmentation model with a decode_head; {type(model).__name__} has none"
        )
    return head


def is_labelled(labels: Tensor, head: Any) -> Tensor:
    return labels != head.ignore_index


@HOOKS.register_module()
class CheckLabelsHook(Hook):
    """Compares the number of classes before a run, and the labels of each batch before its pass."""

    def before_train(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.train_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.test_dataloader.dataset)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        for sample in (data_batch or {}).get("data_samples", []):
            check_labels(decode_head(unwrapped(runner.model)), sample)

    before_val_iter = before_test_iter = before_train_iter


def check_classes(model: nn.Module, dataset: Any) -> None:
    head, names = decode_head(model), getattr(dataset, "metainfo", {}).get("classes")
    if names is not None and len(names) != head.num_classes:
        raise ValueError(
            f"the data set has {len(names)} classes, {', '.join(names)}, and the decode_head "
            f"num_classes={head.num_classes}; set num_classes={len(names)} in decode_head and "
            "auxiliary_head, or classes in the data set's metainfo"
        )


def check_labels(head: Any, sample: Any) -> None:
    """A sample without labels passes."""
    if "gt_sem_seg" not in sample:
        return
    labels, file = sample.gt_sem_seg.data, sample.get("seg_map_path", "a label image")
    if len(labels) != 1:
        raise ValueError(
            f"{file} gives labels of shape {tuple(labels.shape)}; wanted a class index per "
            "pixel, in a grey or palette image; are these the colours of the classes?"
        )
    wrong = labels[is_labelled(labels, head) & ((labels < 0) | (labels >= head.num_classes))]
    if len(wrong):
        found = torch.unique(wrong).tolist()
        raise ValueError(
            f"{file} has {len(wrong)} pixels labelled "
            f"{', '.join(map(str, found))}; wanted 0 to {head.num_classes - 1}, or "
            f"{head.ignore_index} for what is to be ignored (ignore_index of the heads)"
        )
