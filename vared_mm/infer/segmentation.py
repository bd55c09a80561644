"""Which class each pixel of images and videos has, drawn over them, and what that cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import TRANSFORMS, init_default_scope

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import SampleCost, summarise
from vared_mm.infer.canvas import note
from vared_mm.infer.frame_files import drawn_into, frames, is_picture, targets, warning_of
from vared_mm.infer.rows import Row, check_finite, classes_of, rows_of
from vared_mm.infer.segmentation_overlay import Legend, class_shares, draw_overlay
from vared_mm.settings import kind, pipeline_of


def infer(
    model: BaseModel, config: Config, files: Sequence[Path], out: Path | None = None
) -> list[Row]:
    """What `model` sees in each of the files; with `out`, drawn into that folder.

    Pictures may be grey or have transparency, and be of any size. A row tells the part of the
    pixels that each class has, most frequent first, and the GMACs with gates and cheap operations;
    `dense_gmacs` is what the plain network would have computed, `share` the part of its dynamic
    convolutions' MACs that was. Of a video these are averages over its frames, whose number and
    range of GMACs it has besides. A file that cannot be read has an `error` in place of the rest, a
    video that lacks a few frames a `warning`.

    Raises:
        ValueError: the classes are not the model's, or two drawings would have one name.
    """
    init_default_scope(config.get("default_scope", "mmseg"))
    drawings = dict(zip(files, targets(files, out, "segments"), strict=True))
    legend = legend_of(model, config)
    load, pipeline = frame_pipeline(config)
    end = around_forward(model.eval(), "predict", CostWatch(model))

    def answer(file: Path) -> Row:
        return segment(model, load, pipeline, legend, file, drawings[file])

    try:
        return rows_of(files, answer)
    finally:
        end()


def legend_of(model: BaseModel, config: Config) -> Legend:
    meta = classes_of(model, config, model.num_classes)
    names, palette = tuple(meta["classes"]), meta.get("palette")
    if palette is None or len(palette) != len(names):
        palette = np.random.default_rng(0).integers(0, 256, (len(names), 3))
    return Legend(names, np.array(palette, np.uint8))


def frame_pipeline(config: Config) -> tuple[Any, Compose]:
    """The config's test pipeline without labels: the step that loads a picture, and the others."""
    steps = [step for step in pipeline_of(config) if "Annotation" not in kind(step)]
    if not steps or not kind(steps[0]).startswith("Load"):
        raise ValueError(
            "wanted a test pipeline whose first step loads a picture; this one has "
            f"{[kind(step) for step in steps]}"
        )
    load, *others = map(built, steps)
    return load, Compose(others)


def built(step: dict[str, Any]) -> Any:
    try:
        return TRANSFORMS.build(step)
    except KeyError:  # mmcv's own steps are not found under a toolbox's scope
        return TRANSFORMS.build({**step, "type": kind(step)})


def loaded_pictures(file: Path, load: Any) -> Iterator[dict[str, Any]]:
    """Pictures as `load` reads them, frames of videos in the colours that it asks for."""
    held = dict(img_path=str(file), seg_fields=[], reduce_zero_label=False)
    images = frames(file)
    if is_picture(file):
        next(images)  # raises for one that cannot be read
        yield load(held)
        return
    for image in images:
        if getattr(load, "color_type", "color") == "grayscale":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = image.astype(np.float32) if getattr(load, "to_float32", False) else image
        yield dict(held, img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])


def segment(
    model: BaseModel,
    load: Any,
    pipeline: Compose,
    legend: Legend,
    file: Path,
    drawing: Path | None,
) -> Row:
    """The row of one file, without its name."""
    warning_of(file)  # before the work
    part: list[np.ndarray] = []
    costs: list[SampleCost] = []
    with drawn_into(drawing, file) as draw:
        for sample in loaded_pictures(file, load):
            image = sample["img"]
            labels, cost = predict(model, pipeline(sample))
            part.append(class_shares(labels, len(legend.classes)))
            costs.append(cost)
            if drawing is not None:
                draw(draw_overlay(image, labels, legend, note(cost)))
        warning = warning_of(file, len(part))
    return {**row(drawing, legend, np.mean(part, axis=0), costs), **warning}


def predict(model: BaseModel, packed: dict[str, Any]) -> tuple[np.ndarray, SampleCost]:
    """Labels (H, W) of a picture of that size, and their cost."""
    data = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
    with torch.no_grad():
        (sample,) = model.test_step(data)
    if "seg_logits" in sample:
        check_finite(sample.seg_logits.data)
    labels = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.int64)
    return labels, sample.metainfo["mac_cost"]


def row(drawing: Path | None, legend: Legend, part: np.ndarray, costs: list[SampleCost]) -> Row:
    cost = summarise(costs)
    of_video = {
        "frames": len(costs),
        "gmacs_min": cost["full_gmacs"]["min"],
        "gmacs_max": cost["full_gmacs"]["max"],
    }
    parts = dict.fromkeys(legend.classes, 0.0)  # classes of one name are one
    for name, its in zip(legend.classes, part, strict=True):
        parts[name] += float(its)
    return {
        "classes": {n: its for n, its in sorted(parts.items(), key=lambda p: -p[1]) if its > 0},
        "gmacs": cost["full_gmacs"]["avg"],
        "dense_gmacs": cost["dense_gmacs"],
        "share": cost["share"]["avg"],
        "drawing": None if drawing is None else str(drawing),
        **(of_video if len(costs) > 1 else {}),
    }
