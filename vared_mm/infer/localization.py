"""Which actions are where in videos of any length and size, drawn into them, and what that cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from vared_mm.datasets.key_frame_clips import SampleAroundKeyFrame
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import SampleCost, summarise
from vared_mm.infer.canvas import note
from vared_mm.infer.frame_files import drawn_into, frames, targets, warning_of
from vared_mm.infer.localization_drawing import draw_boxes
from vared_mm.infer.rows import Row, check_finite, classes_of, rows_of
from vared_mm.metrics.tubes import LinkConfig, Tube, link, tube_iou
from vared_mm.settings import data_of, innermost, kind, pipeline_of

# Tubes that are told: above this score, and at most so much over a better one.
SCORE, OVERLAP = 0.1, 0.5


@dataclass(frozen=True)
class KeyFrame:
    """What was found in one frame, counted from 1: boxes (K, 4), class scores (K, C), the cost."""

    frame: int
    boxes: np.ndarray
    scores: np.ndarray
    cost: SampleCost


def infer(
    model: BaseModel, config: Config, files: Sequence[Path], out: Path | None = None
) -> list[Row]:
    """A row for each video; with `out`, its tubes drawn into `<name>_actions.mp4` there.

    The test pipeline takes a clip around each key frame, of which there is one in `every` frames of
    the config's test set (by default each). A row tells the `tubes` from the best to the worst:
    `label`, `name`, `score`, and a box x1 y1 x2 y2 in pixels for each of its `frames`, which are
    counted from 1; of all classes that one place has, only the likeliest. `key_frames` tell the
    GMACs of each clip with gates and cheap operations, the row itself their mean, least and most.
    A video that cannot be read has an `error` in place of the rest, one that lacks a few frames a
    `warning`.

    Raises:
        ValueError: the classes are not the model's, or two drawings would have one name.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    names = classes_of(model, config, int(model.bbox_head.num_classes))["classes"]
    after_decoding(pipeline_of(config))  # refuses a pipeline before the work
    drawings = dict(zip(files, targets(files, out, "actions"), strict=True))
    end = around_forward(model.eval(), "predict", CostWatch(model))
    # Boxes whose confidence is no number are not kept, and would not be missed.
    watch = model.bbox_head.register_forward_hook(lambda head, args, raw: check_finite(raw))
    try:
        return rows_of(files, lambda file: localize(model, config, names, file, drawings[file]))
    finally:
        end()
        watch.remove()


def localize(
    model: BaseModel, config: Config, names: list[str], file: Path, drawing: Path | None
) -> Row:
    warning_of(file)  # before the work
    pictures = Counted(frames(file))
    found = list(key_frames(model, config, pictures))
    warning = warning_of(file, pictures.count)
    tubes = best_tubes(linked(found, link_config(config), pictures.count))
    if drawing is not None:
        draw(file, drawing, tubes, names, found)
    cost = summarise([key.cost for key in found])
    return {
        "tubes": [
            {
                "label": label,
                "name": names[label],
                "score": tube.score,
                "frames": tube.frames.tolist(),
                "boxes": tube.boxes.round(2).tolist(),
            }
            for label, tube in tubes
        ],
        "key_frames": [
            {"frame": k.frame, "gmacs": float(k.cost.static + k.cost.full.sum()) / 1e9}
            for k in found
        ],
        "gmacs": cost["full_gmacs"]["avg"],
        "gmacs_min": cost["full_gmacs"]["min"],
        "gmacs_max": cost["full_gmacs"]["max"],
        "dense_gmacs": cost["dense_gmacs"],
        "share": cost["share"]["avg"],
        "drawing": None if drawing is None else str(drawing),
        **warning,
    }


class Counted:
    """Goes through pictures once, and tells how many there were."""

    def __init__(self, pictures: Iterable[np.ndarray]) -> None:
        self.pictures, self.count = pictures, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for picture in self.pictures:
            self.count += 1
            yield picture


def key_frames(
    model: BaseModel, config: Config, images: Iterable[np.ndarray]
) -> Iterator[KeyFrame]:
    """Of BGR frames uint8 (H, W, 3)."""
    sample, pipeline = after_decoding(pipeline_of(config))
    pictures = (cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images)
    every = innermost(data_of(config)).get("every", 1)
    for key, clip in clips_around(pictures, sample.clip_len, sample.intervals[0], every):
        shape = clip[0].shape[:2]
        packed = pipeline(
            dict(imgs=clip, img_shape=shape, original_shape=shape, modality="RGB",
                 clip_len=len(clip), num_clips=1, frame=key + 1)
        )  # fmt: skip
        with torch.no_grad():
            (one,) = model.test_step({name: [value] for name, value in packed.items()})
        found = one.pred_instances
        scores = found.objectness[:, None] * found.class_probs
        check_finite(found.bboxes, scores)
        cost = one.metainfo["mac_cost"]
        yield KeyFrame(key + 1, found.bboxes.cpu().numpy(), scores.cpu().numpy(), cost)


def after_decoding(pipeline: Sequence[dict[str, Any]]) -> tuple[SampleAroundKeyFrame, Compose]:
    """How the test pipeline chooses frames, and what it does to those that are decoded."""
    kinds = [kind(step) for step in pipeline]
    decode = next((i for i, name in enumerate(kinds) if name.endswith("Decode")), None)
    if "SampleAroundKeyFrame" not in kinds or decode is None:
        raise ValueError(
            "the test pipeline of a clip detector has SampleAroundKeyFrame and a step that "
            f"decodes; this one has {kinds}"
        )
    settings = dict(pipeline[kinds.index("SampleAroundKeyFrame")])
    settings.pop("type")
    return SampleAroundKeyFrame(**settings), Compose(list(pipeline[decode + 1 :]))


def clips_around(
    pictures: Iterable[np.ndarray], clip_len: int, interval: int, every: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Key frames, counted from 0, with the clips around them as `SampleAroundKeyFrame` has them.

    No more frames are kept than a clip spans.
    """
    steps = interval * (np.arange(clip_len) - clip_len // 2)
    window: deque[np.ndarray] = deque(maxlen=1 + int(steps[-1] - steps[0]))
    key = seen = 0

    def clip() -> list[np.ndarray]:
        first = seen - len(window)
        return [window[i - first] for i in (key + steps).clip(0, seen - 1)]

    for picture in pictures:
        window.append(picture)
        seen += 1
        if seen == key + int(steps[-1]) + 1:
            if key % every == 0:
                yield key, clip()
            key += 1
    while key < seen:
        if key % every == 0:
            yield key, clip()
        key += 1


def link_config(config: Config) -> LinkConfig:
    """That of the config's `JHMDBMetric`."""
    evaluators = config.get("test_evaluator") or []
    for evaluator in [evaluators] if isinstance(evaluators, dict) else evaluators:
        if kind(evaluator) == "JHMDBMetric":
            return LinkConfig(**(evaluator.get("link") or {}))
    return LinkConfig()


def linked(found: Sequence[KeyFrame], config: LinkConfig, total: int) -> list[tuple[int, Tube]]:
    """All tubes with the number of their class, with a box in each frame that they span; that of
    the last key frame holds to the end of the `total` frames where tubes are stretched."""
    by_class = link(
        [key.frame for key in found],
        [key.boxes for key in found],
        [key.scores for key in found],
        config,
    )
    end = total if config.max_gap is None else 0
    return [(c, in_every_frame(tube, end)) for c, tubes in enumerate(by_class) for tube in tubes]


def in_every_frame(tube: Tube, end: int = 0) -> Tube:
    """At least to the frame `end`, counted from 1, with the last box."""
    frames = np.arange(tube.frames[0], max(tube.frames[-1], end) + 1)
    boxes = [np.interp(frames, tube.frames, corner) for corner in tube.boxes.T]
    return Tube(frames, np.stack(boxes, axis=1), tube.score)


def best_tubes(tubes: Sequence[tuple[int, Tube]]) -> list[tuple[int, Tube]]:
    """The best tubes of each place."""
    chosen: list[tuple[int, Tube]] = []
    for label, tube in sorted(tubes, key=lambda pair: -pair[1].score):
        apart = all(tube_iou(tube, other) <= OVERLAP for _, other in chosen)
        if tube.score > SCORE and apart:
            chosen.append((label, tube))
    return chosen


def draw(
    file: Path,
    drawing: Path,
    tubes: Sequence[tuple[int, Tube]],
    names: list[str],
    found: Sequence[KeyFrame],
) -> None:
    """The video with its tubes, and the GMACs of the clip around the last key frame."""
    notes = {key.frame: note(key.cost) for key in found}
    last = ""
    with drawn_into(drawing, file) as write:
        for number, picture in enumerate(frames(file), 1):
            last = notes.get(number, last)
            boxes = [
                (label, f"{names[label]} {tube.score:.2f}", tube.boxes[number - tube.frames[0]])
                for label, tube in tubes
                if tube.frames[0] <= number <= tube.frames[-1]
            ]
            write(draw_boxes(picture, boxes, last))
