"""What a recognizer says of videos: label, score, and what each clip cost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from vared_mm.datasets.video_guard import fault_of
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.screen import tracked


def infer(
    model: BaseModel, config: Config, files: list[Path], out: Path | None = None
) -> list[dict[str, Any]]:
    """A row for each video, with one for each of its clips.

    The config's test pipeline takes the clips; the video's scores are their mean. A video that
    cannot be read has an `error` in place of the rest. There are no pictures to write into `out`.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    pipeline = Compose(test_pipeline(config))
    end = around_forward(model, "predict", CostWatch(model))
    try:
        return [row_of(model, pipeline, file) for file in tracked(files, len(files), "videos")]
    finally:
        end()


def test_pipeline(config: Config) -> list[dict[str, Any]]:
    """That of the test set, which may stand in another one."""
    dataset = config.test_dataloader.dataset
    while "pipeline" not in dataset:
        dataset = dataset.dataset
    return dataset.pipeline


def row_of(model: BaseModel, pipeline: Compose, file: Path) -> dict[str, Any]:
    fault = fault_of(str(file))
    if fault:
        return {"file": str(file), "error": fault}
    packed = pipeline(dict(filename=str(file), label=-1, start_index=0, modality="RGB"))
    with torch.no_grad():
        samples = model.test_step(one_sample_a_clip(packed["inputs"], packed["data_samples"]))
    scores = torch.stack([sample.pred_score for sample in samples])
    clips = [
        {**best(score), **cost_of(sample)} for score, sample in zip(scores, samples, strict=True)
    ]
    mean = sum(clip["gmacs"] for clip in clips) / len(clips)
    return {"file": str(file), **best(scores.mean(0)), "gmacs": mean, "clips": clips}


def one_sample_a_clip(inputs: torch.Tensor, sample: Any) -> dict[str, list[Any]]:
    """A batch from the clips of one video: (clips, C, T, H, W); 2-D networks see (T, C, H, W)."""
    clips = [clip[None] for clip in inputs] if inputs.ndim == 5 else [inputs]
    return {"inputs": clips, "data_samples": [copy.deepcopy(sample) for _ in clips]}


def best(scores: torch.Tensor) -> dict[str, Any]:
    score, label = scores.max(0)
    return {"label": int(label), "score": float(score)}


def cost_of(sample: Any) -> dict[str, float]:
    """GMACs of one clip that really ran, and the share of what its gates could leave out."""
    cost = sample.mac_cost
    dense = float(cost.dense.sum())
    return {
        "gmacs": float(cost.static + cost.full.sum()) / 1e9,
        "share": float(cost.paper.sum()) / dense if dense else 1.0,
    }
