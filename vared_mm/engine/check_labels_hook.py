"""Refuses segmentation labels and settings that do not fit each other, and names the image.

Without it a GPU stops with a device-side assertion that names nothing, and mIoU counts pixels that
no class covers as nobody's, or those that the heads ignore as wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.compat.data_sets import refuse_string
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


def heads_of(model: nn.Module) -> dict[str, Any]:
    """All that learn from the labels as they are, which STDCHead, of borders, does not."""
    decode_head(model)
    heads: dict[str, Any] = {}
    for name in ("decode_head", "auxiliary_head"):
        found = getattr(model, name, None)
        listed = dict(found.named_children()) if isinstance(found, nn.ModuleList) else {"": found}
        heads |= {f"{name}.{i}".rstrip("."): head for i, head in listed.items()}
    return {
        name: head for name, head in heads.items()
        if hasattr(head, "ignore_index") and type(head).__name__ != "STDCHead"
    }  # fmt: skip


@HOOKS.register_module()
class CheckLabelsHook(Hook):
    """Refuses segmentation labels and settings that do not fit each other, and names the image.

    It compares settings before a run, and the labels of each batch before its pass. Without it a
    GPU stops with an assertion that names nothing, and mIoU counts pixels that no class covers as
    nobody's.
    """

    def before_train(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.train_dataloader.dataset)
        check_ignored(unwrapped(runner.model))
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.val_dataloader.dataset)
        check_ignored(unwrapped(runner.model), runner.val_evaluator.metrics)

    def before_test(self, runner: Runner) -> None:
        check_classes(unwrapped(runner.model), runner.test_dataloader.dataset)
        check_ignored(unwrapped(runner.model), runner.test_evaluator.metrics)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        model, batch = unwrapped(runner.model), data_batch or {}
        for picture, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            check_labels(decode_head(model), sample)
            check_size(sample, tuple(picture.shape[-2:]))
        check_padding(model, batch["inputs"])

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        for sample in flat((data_batch or {}).get("data_samples", [])):
            check_labels(decode_head(unwrapped(runner.model)), sample)
            # The answer is brought to the size of the picture as it was read.
            check_size(sample, sample.get("ori_shape"))

    before_test_iter = before_val_iter


def flat(samples: Sequence[Any]) -> Iterator[Any]:
    """Those of a batch; under test-time augmentation of each augmentation in turn."""
    for sample in samples:
        yield from flat(sample) if isinstance(sample, list | tuple) else [sample]


def check_classes(model: nn.Module, dataset: Any) -> None:
    names = getattr(dataset, "metainfo", {}).get("classes")
    if names is None:
        return
    refuse_string(names)
    for where, head in heads_of(model).items():
        if len(names) != head.num_classes:
            raise ValueError(
                f"the data set has {len(names)} classes, {', '.join(names)}, and the {where} "
                f"num_classes={head.num_classes}; set num_classes={len(names)} in decode_head and "
                "auxiliary_head, or classes in the data set's metainfo"
            )


def check_ignored(model: nn.Module, metrics: Sequence[Any] = ()) -> None:
    """Heads, their losses and the metrics have to ignore the same label."""
    parts = {
        f"{where}.{name}".rstrip("."): part
        for where, head in heads_of(model).items()
        for name, part in head.named_modules()
    }
    parts |= {f"{type(metric).__name__} of the evaluator": metric for metric in metrics}
    told = {
        f"{where} has {name}={getattr(part, name)}": getattr(part, name)
        for where, part in parts.items()
        for name in ("ignore_index", "ignore_label")
        if isinstance(getattr(part, name, None), int)
    }
    if len(set(told.values())) > 1:
        raise ValueError(
            f"{', '.join(told)}; set the same ignore_index for all, as else what one of them "
            "leaves out counts for another"
        )


def check_size(sample: Any, wanted: tuple[int, int] | None) -> None:
    if wanted is None or "gt_sem_seg" not in sample:
        return
    came = tuple(sample.gt_sem_seg.data.shape[-2:])
    if came != tuple(wanted):
        raise ValueError(
            f"{sample.get('seg_map_path', 'a label image')} gives labels of {came[0]} x {came[1]} "
            f"to a picture of {wanted[0]} x {wanted[1]}, {sample.get('img_path', 'without a file')}"
        )


def check_padding(model: Any, pictures: Sequence[Tensor]) -> None:
    """What a batch is padded with has to be ignored, as MMSegmentation's preprocessor pads it."""
    preprocessor, ignored = model.data_preprocessor, decode_head(model).ignore_index
    label = getattr(preprocessor, "seg_pad_val", ignored)
    if label == ignored:
        return
    sizes = {tuple(picture.shape[-2:]) for picture in pictures}
    wanted, step = preprocessor.size or (0, 0), preprocessor.size_divisor or 1
    small = any(
        side < least or side % step
        for size in sizes
        for side, least in zip(size, wanted, strict=True)
    )
    if small or len(sizes) > 1:
        raise ValueError(
            f"pictures are padded, and their labels with seg_pad_val={label}, which the heads, of "
            f"ignore_index={ignored}, do not ignore; set seg_pad_val={ignored} in the "
            "data_preprocessor"
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
