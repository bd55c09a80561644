"""Who the samples of a data set are, and what a model answered to each of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import nn

from vared_mm.datasets.folders import is_hidden
from vared_mm.engine.check_labels_hook import decode_head, is_labelled
from vared_mm.engine.cost_metric import SampleCost, aligned, share_of
from vared_mm.engine.jhmdb_metric import frame_result
from vared_mm.files import read_names
from vared_mm.metrics.localization import FrameResult, recall_and_classification
from vared_mm.report.policies import Policies, policies_of
from vared_mm.report.result import Data, Samples
from vared_mm.report.sample_losses import label_loss, pixel_loss
from vared_mm.settings import innermost

# What data sets of the toolboxes call the truth of a sample.
TRUTH = ("label", "truth", "gt_bboxes", "gt_labels", "instances")
# Which frames of its file or folder a sample is.
PART = ("total_frames", "offset")
Answer = tuple[int, int, float, float]  # label, predicted, correct, loss: see `Samples`


def task_of(model: nn.Module, scope: str) -> str:
    """By the model's head; a head for boxes finds actions in MMAction2, objects elsewhere."""
    if hasattr(model, "cls_head"):
        return "recognition"
    if hasattr(model, "decode_head"):
        return "segmentation"
    if hasattr(model, "bbox_head") or hasattr(model, "roi_head"):
        return "localization" if scope == "mmaction" else "detection"
    raise ValueError(
        "wanted a model with a cls_head, decode_head, bbox_head or roi_head, whose predictions "
        f"metrics read; {type(model).__name__} has none"
    )


class SampleAnswers(BaseMetric):
    """Keeps of every sample what is told of it in samples.npz; a metric without metrics."""

    default_prefix = "sample"

    def __init__(self, answer: Callable[[Mapping[str, Any]], Answer]) -> None:
        super().__init__()
        self.answer = answer

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [self.answer(sample) for sample in data_samples]

    def compute_metrics(self, results: list[Answer]) -> dict[str, float]:
        return {}


def answers(
    task: str, model: nn.Module, classes: Sequence[str] | None, is_merged: bool = False
) -> Callable[[Mapping[str, Any]], Answer]:
    """The function from a predicted data sample, `is_merged` of augmented views, as a mapping, to
    its `Answer`."""
    if task == "segmentation":
        return partial(right_pixels, decode_head(model), is_merged=is_merged)
    if task == "localization":
        return partial(right_boxes, len(classes or ()))
    return right_label if task == "recognition" else untold


def untold(sample: Mapping[str, Any]) -> Answer:
    return -1, -1, math.nan, math.nan


def right_label(sample: Mapping[str, Any]) -> Answer:
    label, scores = sample.get("gt_label"), sample.get("pred_score")
    known = -1 if label is None or label.numel() != 1 else int(label)
    best = -1
    # Of NaN, which is no answer, `argmax` would make one.
    if isinstance(scores, torch.Tensor) and scores.ndim == 1 and bool(scores.isfinite().all()):
        best = int(scores.argmax())
    correct = math.nan if -1 in (known, best) else float(known == best)
    return known, best, correct, label_loss(sample)


def right_pixels(head: Any, sample: Mapping[str, Any], is_merged: bool = False) -> Answer:
    """The share of the labelled pixels."""
    if "gt_sem_seg" not in sample:
        return untold(sample)
    label = sample["gt_sem_seg"]["data"].cpu()
    right = (sample["pred_sem_seg"]["data"].cpu() == label)[is_labelled(label, head)]
    correct = float(right.double().mean())  # NaN where no pixel is labelled
    # MMSegmentation merges views into the last one, whose own scores stay on it.
    return -1, -1, correct, pixel_loss(head, {} if is_merged else sample, correct)


def right_boxes(classes: int, sample: Mapping[str, Any]) -> Answer:
    """The share of the true boxes that are found with their class, as Recall and Classif. count."""
    if "truth" not in sample:
        return untold(sample)
    frame = frame_result(sample, classes)
    recall, classif = recall_and_classification([frame])
    labels = set(frame.truth_labels.tolist())
    correct = recall * classif if labels else math.nan
    return labels.pop() if len(labels) == 1 else -1, best_class(frame), correct, 1 - correct


def best_class(frame: FrameResult) -> int:
    """That of the box with the highest score, -1 where no box is found."""
    scores = frame.confidence[:, None] * frame.class_probs
    return int(scores.argmax()) % scores.shape[1] if scores.size else -1


def source_of(info: Mapping[str, Any], index: int) -> str:
    """The file of a sample, or `<video>:<frame>` of a key frame; without either its number."""
    if "video" in info and "frame" in info:
        return f"{info['video']}:{info['frame']}"
    named = (info[k] for k in ("filename", "img_path", "img_key", "frame_dir") if k in info)
    return str(next(named, index))


def known_classes(dataset: Any, given: Sequence[str] | None) -> Sequence[str] | None:
    """Those of the data set, those given, or those of classes.txt beside its annotations."""
    if names := getattr(dataset, "metainfo", {}).get("classes"):
        return names
    beside = Path(getattr(innermost(dataset), "ann_file", "")).parent / "classes.txt"
    if given is None and beside.is_file():
        given = read_names(beside)
    labels = [dataset.get_data_info(i).get("label") for i in range(len(dataset))]
    largest = max((label for label in labels if isinstance(label, int)), default=-1)
    if given is not None and largest >= len(given):
        raise ValueError(
            f"a sample has label {largest}, and there are {len(given)} names of classes; give "
            "all of them with --classes"
        )
    return given


def describe(dataset: Any, classes: Sequence[str] | None) -> tuple[Data, list[str]]:
    """What is evaluated, and the file of each sample."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    files = [source_of(info, i) for i, info in enumerate(infos)]
    dataset = innermost(dataset)
    prefixes = [str(p) for p in (getattr(dataset, "data_prefix", None) or {}).values() if p]
    data = Data(
        name=type(dataset).__name__,
        file=str(getattr(dataset, "ann_file", "") or next(iter(prefixes), "")),
        samples=len(files),
        classes=None if classes is None else tuple(classes),
        fingerprint=fingerprint(infos, files, classes),
    )
    return data, files


def fingerprint(
    infos: Sequence[Mapping[str, Any]], files: Sequence[str], classes: Sequence[str] | None
) -> str:
    """Tells apart what is evaluated, wherever its folder lies: the samples in their order with the
    sizes of their files or frames, their truth with the contents of label images, and the classes.
    """
    digest = hashlib.sha256(json.dumps(classes).encode())
    paths = [os.path.abspath(file) for file in files]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    # Two splits may name and label their samples alike; several samples may be of one folder.
    sizes = {path: size_of(path) for path in {*paths}}
    for info, path in zip(infos, paths, strict=True):
        truth = {name: info[name] for name in (*TRUTH, *PART) if name in info}
        row = [os.path.relpath(path, folder), sizes[path], truth]
        digest.update(json.dumps(row, sort_keys=True, default=as_list).encode())
        labels = Path(info.get("seg_map_path") or "")
        if labels.is_file():
            digest.update(labels.read_bytes())
    return digest.hexdigest()


def size_of(path: str) -> int | list[int] | None:
    """Of a folder those of its files, which are a clip's frames; None where there is nothing."""
    if os.path.isdir(path):
        files = (one for one in os.scandir(path) if one.is_file())
        return sorted(one.stat().st_size for one in files if not is_hidden(PurePath(one.name)))
    return os.path.getsize(path) if os.path.isfile(path) else None


def as_list(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def samples_from(
    files: Sequence[str], told: Sequence[Answer], costs: Sequence[SampleCost]
) -> Samples:
    """Of N samples; costs of several views are those of one clip, their mean. Policies are told
    where all samples ask the same gates."""
    costs = aligned(costs)
    views = np.array([cost.views for cost in costs], float)
    dense, paper = (
        np.stack([getattr(cost, kind) for cost in costs]) for kind in ("dense", "paper")
    )
    totals = [cost.totals for cost in costs]
    label, predicted, correct, loss = zip(*told, strict=True)
    gates = [cost.gates for cost in costs]
    same = all(one.keys() == gates[0].keys() for one in gates)
    return Samples(
        file=np.array(files, dtype=np.str_),
        label=np.array(label, np.int64),
        predicted=np.array(predicted, np.int64),
        correct=np.array(correct, np.float64),
        share=share_of(paper.sum(1), dense.sum(1)),
        paper_gmacs=np.array([total["paper"] for total in totals]) / views / 1e9,
        full_gmacs=np.array([total["full"] for total in totals]) / views / 1e9,
        layer_names=np.array(costs[0].names, dtype=np.str_),
        layer_dense=dense / views[:, None],
        layer_share=share_of(paper, dense, np.nan),
        loss=np.array(loss, np.float64),
        layer_frames=np.array(costs[0].frames, np.int64) if costs[0].frames else None,
        **(policy_arrays(policies_of(gates)) if gates[0] and same else {}),
    )


def policy_arrays(policies: Policies) -> dict[str, np.ndarray | None]:
    """As `Samples` calls them."""
    return {
        "policy": policies.chosen,
        "policy_answers": policies.answers,
        "gate_names": policies.names,
        "gate_answers": policies.gate_answers,
        "gate_counts": policies.gate_counts,
    }
