"""Which class each pixel of images and videos has, drawn over them, and what that cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, init_default_scope

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import SampleCost, summarise
from vared_mm.infer.segmentation_overlay import Legend, draw_overlay, shares

Row = dict[str, Any]


def infer(
    model: BaseModel, config: Config, files: Sequence[Path], out: Path | None = None
) -> list[Row]:
    """What `model` sees in each of the files; with `out`, drawn into that folder.

    Pictures may be grey or have transparency, and be of any size. A row tells the part of the
    pixels that each class has, most frequent first, and the GMACs with gates and cheap operations;
    `dense_gmacs` is what the plain network would have computed, `share` the part of its dynamic
    convolutions' MACs that was. Of a video these are averages over its frames.

    Raises:
        ValueError: a file is neither a picture nor a video, or the classes are not the model's.
    """
    init_default_scope(config.get("default_scope", "mmseg"))
    drawings = targets(files, out)
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


def targets(files: Sequence[Path], out: Path | None) -> list[Path | None]:
    """Where each file's drawing goes; refused where two would go to one place."""
    if out is None:
        return [None] * len(files)
    found: dict[Path, Path] = {}
    for file in files:
        suffix = ".png" if is_picture(file) else ".mp4"
        target = out / f"{file.stem}_segments{suffix}"
        if target in found:
            raise ValueError(
                f"{found[target]} and {file} would both be drawn as {target}; give them in two "
                "calls with folders of their own, or other names"
            )
        found[target] = file
    out.mkdir(parents=True, exist_ok=True)
    return list(found)


def is_picture(file: Path) -> bool:
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    return cv2.haveImageReader(str(file))


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
    with drawn_into(drawing, file) as draw:
        for frame in frames(file):
            labels, cost = predict(model, pipeline, frame)
            part.append(shares(labels, len(legend.classes)))
            costs.append(cost)
            if drawing is not None:
                draw(draw_overlay(frame, labels, legend, note(cost)))
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


def note(cost: SampleCost) -> str:
    one = summarise([cost])
    return f"{one['full_gmacs']['avg']:.3g} of {one['dense_gmacs']:.3g} GMACs"


def row(
    file: Path, drawing: Path | None, legend: Legend, part: np.ndarray, costs: list[SampleCost]
) -> Row:
    cost = summarise(costs)
    order = [i for i in np.argsort(-part, kind="stable") if part[i] > 0]
    return {
        "file": str(file),
        "frames": len(costs),
        "classes": {legend.classes[i]: float(part[i]) for i in order},
        "gmacs": cost["full_gmacs"]["avg"],
        "gmacs_min": cost["full_gmacs"]["min"],
        "gmacs_max": cost["full_gmacs"]["max"],
        "dense_gmacs": cost["dense_gmacs"],
        "share": cost["share"]["avg"],
        "drawing": None if drawing is None else str(drawing),
    }


def frames(file: Path) -> Iterator[np.ndarray]:
    """BGR frames uint8 (H, W, 3): one of a picture, all of a video."""
    if is_picture(file):
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{file} begins like a picture, but OpenCV cannot read it")
        yield picture
        return
    video = cv2.VideoCapture(str(file))
    seen = False
    try:
        while (read := video.read())[0]:
            seen = True
            yield read[1]
    finally:
        video.release()
    if not seen:
        raise ValueError(f"{file} is no picture or video that OpenCV {cv2.__version__} can read")


def frame_rate(file: Path) -> float:
    video = cv2.VideoCapture(str(file))
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate if 0 < rate < 1000 else 25.0


@contextmanager
def drawn_into(target: Path | None, file: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes canvases for `target`, which appears complete or not at all."""
    if target is None:
        yield lambda canvas: None
        return
    half = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        if target.suffix == ".png":
            yield lambda canvas: check_written(cv2.imwrite(str(half), canvas), target)
        else:
            with video_writer(half, frame_rate(file)) as draw:
                yield draw
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Its size is that of the first canvas."""
    writer = cv2.VideoWriter()

    def draw(canvas: np.ndarray) -> None:
        if not writer.isOpened():
            size = (canvas.shape[1], canvas.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            check_written(writer.open(str(path), codec, rate, size), path)
        writer.write(canvas)

    try:
        yield draw
    finally:
        writer.release()


def check_written(done: bool, path: Path) -> None:
    if not done:
        raise OSError(f"OpenCV {cv2.__version__} cannot write {path}")
