"""The figures of spatio-temporal localization, for J-HMDB and for data sets like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from vared_mm.metrics.localization import (
    RANGE,
    FrameResult,
    frame_aps,
    recall_and_classification,
    video_aps,
)
from vared_mm.metrics.tubes import LinkConfig

THRESHOLDS = (0.2, 0.5, 0.75)


@METRICS.register_module()
class JHMDBMetric(BaseMetric):
    """What the boxes in key frames, and the tubes linked from them, are worth.

    - `jhmdb/recall`: true boxes that a box of confidence above 0.25 overlaps by an IoU above 0.5,
      whatever its class. `jhmdb/classif`: of these, the share whose best box has the right class.
    - `jhmdb/frame_mAP@0.5`: mean over the classes of the AP of boxes; a box's score is its
      confidence times the probability of its class. The mAP of the paper's Table 8.
    - `jhmdb/video_mAP@0.2`, `@0.5`, `@0.75`, `@0.5:0.95`: of linked tubes.

    A class that is nowhere in the evaluated frames is left out of the means. Predictions are as
    `RegionHead.predict` tells; of a detector that gives `scores` and `labels` alone, the score
    stands for the confidence of a certain class. The truth comes from `JHMDBDataset`.

    Args:
        link: settings of `LinkConfig`, e.g. `dict(min_score=0.05, max_gap=5)` for videos that are
            longer than the action, as those of UCF101-24.
        pixel_ends: x2 and y2 are the last pixels within a box, a side is x2 - x1 + 1, as in the
            evaluation that YOWO publishes, for frame-mAP and for the overlap of tubes in video-mAP.
            Recall, Classif. and the linking go by the plain IoU there too. On J-HMDB frame-mAP is
            a quarter of a point higher with it.
        classwise: also `jhmdb/frame_AP@0.5/<class>` and `jhmdb/video_AP@0.5/<class>`.
    """

    default_prefix = "jhmdb"

    def __init__(
        self,
        link: Mapping[str, Any] | None = None,
        classwise: bool = False,
        pixel_ends: bool = False,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device)
        if not isinstance(link, Mapping | None):
            raise ValueError(f"link is {link!r}; wanted settings as dict(min_score=0.05)")
        self.link, self.classwise = LinkConfig(**(link or {})), classwise
        self.pixel_ends = pixel_ends

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        classes = len(self.classes())
        self.results += [frame_result(sample, classes) for sample in data_samples]

    def classes(self) -> Sequence[str]:
        names = (self.dataset_meta or {}).get("classes")
        if not names:
            raise ValueError(
                "JHMDBMetric needs the names of the classes, which JHMDBDataset gives in its "
                f"metainfo; came {self.dataset_meta}"
            )
        return names

    def compute_metrics(self, results: list[FrameResult]) -> dict[str, float]:
        names = self.classes()
        thresholds = sorted({*THRESHOLDS, *RANGE})
        recall, classif = recall_and_classification(results)
        frame = frame_aps(results, len(names), self.pixel_ends)
        aps = video_aps(results, len(names), thresholds, self.link, self.pixel_ends)
        video = dict(zip(thresholds, aps, strict=True))
        metrics = {"recall": recall, "classif": classif, "frame_mAP@0.5": mean(frame)}
        metrics |= {f"video_mAP@{t}": mean(video[t]) for t in THRESHOLDS}
        metrics["video_mAP@0.5:0.95"] = float(np.mean([mean(video[t]) for t in RANGE]))
        if self.classwise:
            for kind, of_class in (("frame", frame), ("video", video[0.5])):
                rows = zip(names, of_class, strict=True)
                metrics |= {f"{kind}_AP@0.5/{n}": float(a) for n, a in rows if not np.isnan(a)}
        return metrics


def mean(aps: np.ndarray) -> float:
    """Over the classes that are there; 0 if none is."""
    there = aps[~np.isnan(aps)]
    return float(there.mean()) if len(there) else 0.0


def frame_result(sample: Mapping[str, Any], classes: int) -> FrameResult:
    """From a predicted data sample of a `JHMDBDataset`, as a mapping.

    Raises:
        ValueError: for one without truth or prediction, or with other classes.
    """
    truth, found = sample.get("truth"), sample.get("pred_instances")
    if truth is None or found is None:
        raise ValueError(
            "JHMDBMetric found a sample without "
            f"{'truth' if truth is None else 'pred_instances'}; PackActionInputs keeps the truth "
            "that JHMDBDataset gives with the meta_keys of key_frame_pipelines, and the "
            "predictions are a detector's"
        )
    height, width = sample["original_shape"]
    scale = np.array([width, height] * 2)
    # mmengine leaves predictions on the device that made them.
    found = {name: torch.as_tensor(values).cpu().numpy() for name, values in found.items()}
    return FrameResult(
        video=sample["video"],
        frame=sample["frame"],
        truth_boxes=truth["boxes"] * scale,
        truth_labels=truth["labels"],
        truth_tubes=truth["tubes"],
        boxes=found["bboxes"].astype(np.float64),
        confidence=found["objectness" if "objectness" in found else "scores"],
        class_probs=class_probs(found, classes),
    )


def class_probs(found: Mapping[str, np.ndarray], classes: int) -> np.ndarray:
    if "class_probs" in found:
        probs = found["class_probs"]
        told = probs.shape[1]
    else:
        labels = found["labels"].astype(int)
        told = max(classes, 1 + int(labels.max(initial=0)))
        probs = np.eye(told)[labels]
    if told != classes:
        raise ValueError(
            f"the detector tells {told} classes apart, the data set has {classes}; set "
            "num_classes of the bbox_head"
        )
    return probs
