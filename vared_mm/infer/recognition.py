"""What a recognizer says of videos: label, score, and what each clip cost."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from vared_mm.datasets.video_faults import fault_in, fault_of_file
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.scores import one_score_a_class
from vared_mm.files import plain_name
from vared_mm.infer.frame_files import UnreadableFileError, warning_of
from vared_mm.infer.rows import Row, check_finite, rows_of
from vared_mm.settings import kind, pipeline_of


def infer(
    model: BaseModel, config: Config, files: Sequence[Path], out: Path | None = None
) -> list[Row]:
    """A row for each video, with one for each of its clips.

    The config's test pipeline takes the clips, also one of frame folders; the video's scores are
    their mean. A video that cannot be read has an `error` in place of the rest, one that lacks a
    few frames a `warning`. There are no pictures to write into `out`.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    pipeline = Compose(of_videos(pipeline_of(config)))
    end = around_forward(model, "predict", CostWatch(model, pipeline.transforms))
    try:
        return rows_of(files, lambda file: recognize(model, pipeline, file))
    finally:
        end()


def of_videos(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The pipeline of a test set of frame folders as one of videos; others as they are."""
    kinds = [kind(step) for step in steps]
    if "RawFrameDecode" not in kinds:
        return list(steps)
    place = kinds.index("RawFrameDecode")
    decode = dict(type="DecordDecode")
    return [dict(type="DecordInit"), *steps[:place], decode, *steps[place + 1 :]]


def recognize(model: BaseModel, pipeline: Compose, file: Path) -> Row:
    with plain_name(file) as name:
        # Of a long video only the frames of the clips are decoded, and all where those fail.
        if fault := fault_of_file(Path(name)):
            raise UnreadableFileError(f"{fault}; wanted a video" if file.is_dir() else fault)
        warning = warning_of(file)
        sample = dict(filename=name, label=-1, start_index=0, modality="RGB")
        try:
            packed = pipeline(dict(sample))
        except Exception as error:
            if fault := fault_in(sample, error):
                raise UnreadableFileError(fault) from error
            raise
    with torch.no_grad():
        samples = model.test_step(one_sample_a_clip(packed["inputs"], packed["data_samples"]))
    scores = torch.stack([one_score_a_class(sample.pred_score, model) for sample in samples])
    check_finite(scores)
    clips = [
        {**best(score), **cost_of(sample)} for score, sample in zip(scores, samples, strict=True)
    ]
    mean = sum(clip["gmacs"] for clip in clips) / len(clips)
    return {**best(scores.mean(0)), "gmacs": mean, "clips": clips, **warning}


def one_sample_a_clip(inputs: torch.Tensor, sample: Any) -> dict[str, list[Any]]:
    """A batch from the clips of one video: (clips, C, T, H, W); 2-D networks see (T, C, H, W)."""
    clips = [clip[None] for clip in inputs] if inputs.ndim == 5 else [inputs]
    return {"inputs": clips, "data_samples": [copy.deepcopy(sample) for _ in clips]}


def best(scores: torch.Tensor) -> dict[str, Any]:
    score, label = scores.max(0)
    return {"label": int(label), "score": float(score)}


def cost_of(sample: Any) -> dict[str, float]:
    """GMACs of one clip that really ran, and the share of what its gates could leave out; of the
    views that a 2-D network takes together, their mean."""
    cost = sample.mac_cost
    dense = float(cost.dense.sum())
    return {
        "gmacs": cost.totals["full"] / cost.views / 1e9,
        "share": float(cost.paper.sum()) / dense if dense else 1.0,
    }
