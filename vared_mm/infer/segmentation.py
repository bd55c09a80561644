"""Which class each pixel of images and videos has, drawn over them, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, init_default_scope

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import SampleCost, summarise
from vared_mm.infer.canvas import note
from vared_mm.infer.frame_files import UnreadableFileError, drawn_into, frames, targets
from vared_mm.infer.segmentation_overlay import Legend, draw_overlay, shares

Row = dict[str, Any]


def infer(
    model: BaseModel, config: Config, files: Sequence[Path], out: Path | None = None
) -> list[Row]:
    """What `model` sees in each of the files; with `out`, drawn into that folder.

    Pictures may be grey or have transparency, and be of any size. A row tells the part of the
    pixels that each class has, most frequent first, and the GMACs with gates and cheap operations;
    `dense_gmacs` is what the plain network would have computed, `share` the part of its dynamic
    convolutions' MACs that was. Of a video these are averages over its frames, whose number and
    range of GMACs it has besides. A file that cannot be read has an `error` in place of the rest.

    Raises:
        ValueError: the classes are not the model's, or two drawings would have one name.
    """
    init_default_scope(config.get("default_scope", "mmseg"))
    drawings = targets(files, out, "segments")
    legend = legend_of(model, config)
    pipeline = frame_pipeline(config)
    end = around_forward(model.eval(), "predict", CostWatch(model))
    try:
        return [
            segment(model, pipeline, legend, file, drawing)
            for file, drawing in zip(files, drawings, strict=True)
        ]
    finally:
        end()


def legend_of(model: BaseModel, config: Config) -> Legend:
    """From what the checkpoint says of its data set, else from the config's."""
    meta = getattr(model, "dataset_meta", None) or {}
    if not meta.get("classes"):
        dataset = config.test_dataloader.dataset
        meta = dataset.get("metainfo") or getattr(DATASETS.get(dataset.type), "METAINFO", {})
    classes = meta.get("classes") or [f"class {i}" for i in range(model.num_classes)]
    if len(classes) != model.num_classes:
        raise ValueError(
            f"the data set has {len(classes)} classes, the model {model.num_classes}; is the "
            "config the checkpoint's?"
        )
    palette = meta.get("palette")
    if palette is None:
        palette = np.random.default_rng(0).integers(0, 256, (len(classes), 3))
    return Legend(tuple(classes), np.array(palette, np.uint8))


def frame_pipeline(config: Config) -> Compose:
    """The config's test pipeline, for frames that are in memory and have no labels."""
    steps = [dict(step) for step in config.test_pipeline if step["type"] != "LoadAnnotations"]
    return Compose([{"type": "mmseg.LoadImageFromNDArray"}, *steps[1:]])


def segment(
    model: BaseModel, pipeline: Compose, legend: Legend, file: Path, drawing: Path | None
) -> Row:
    """The row of one file."""
    part: list[np.ndarray] = []
    costs: list[SampleCost] = []
    try:
        with drawn_into(drawing, file) as draw:
            for frame in frames(file):
                labels, cost = predict(model, pipeline, frame)
                part.append(shares(labels, len(legend.classes)))
                costs.append(cost)
                if drawing is not None:
                    draw(draw_overlay(frame, labels, legend, note(cost)))
    except UnreadableFileError as error:
        return {"file": str(file), "error": str(error)}
    return row(file, drawing, legend, np.mean(part, axis=0), costs)


def predict(
    model: BaseModel, pipeline: Compose, frame: np.ndarray
) -> tuple[np.ndarray, SampleCost]:
    """Labels (H, W) of a BGR frame (H, W, 3), and their cost."""
    packed = pipeline({"img": frame})
    data = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
    with torch.no_grad():
        (sample,) = model.test_step(data)
    labels = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.int64)
    return labels, sample.metainfo["mac_cost"]


def row(
    file: Path, drawing: Path | None, legend: Legend, part: np.ndarray, costs: list[SampleCost]
) -> Row:
    cost = summarise(costs)
    of_video = {
        "frames": len(costs),
        "gmacs_min": cost["full_gmacs"]["min"],
        "gmacs_max": cost["full_gmacs"]["max"],
    }
    order = [i for i in np.argsort(-part, kind="stable") if part[i] > 0]
    return {
        "file": str(file),
        "classes": {legend.classes[i]: float(part[i]) for i in order},
        "gmacs": cost["full_gmacs"]["avg"],
        "dense_gmacs": cost["dense_gmacs"],
        "share": cost["share"]["avg"],
        "drawing": None if drawing is None else str(drawing),
        **(of_video if len(costs) > 1 else {}),
    }
