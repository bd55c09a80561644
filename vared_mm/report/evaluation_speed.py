"""Clips or images per second of a model and of its static twin, on the config's own inputs."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from vared_mm.fast.benchmark import Row, Settings, conditions, measure


def speeds(model: BaseModel, config: Config, settings: Settings) -> dict[str, Any]:
    """`speed` of a `Result`: gates are not forced, they decide by the inputs.

    Args:
        model: In evaluation mode.
        settings: Of its `engines` and `batches` the first ones are used.
    """
    inputs = timed_batch(model, config, settings.batches[0])
    with torch.no_grad():
        rows = measure(model, inputs, settings)
    # What chooses past gates has no static twin, and is timed as it is.
    chooses = hasattr(model, "record_cost")
    sides = {"dynamic" if chooses else row.network: rates_of(row) for row in rows}
    held = conditions(settings) | {
        "shape": list(inputs.shape),
        "batch": len(inputs),
        "engine": settings.engines[0],
        "gates": "as the data wants",
    }
    return {**sides, "conditions": held}


def rates_of(row: Row) -> dict[str, float]:
    fast, slow = row.ms_quartiles
    per_second = 1000 * row.batch
    return {"median": row.clips_per_s, "low": per_second / slow, "high": per_second / fast}


def timed_batch(model: BaseModel, config: Config, size: int) -> Tensor:
    """Inputs of the test set in random order: of a video one view, the middle one of its views;
    of images those of the first one's size."""
    settings = config.test_dataloader.copy()
    settings.update(batch_size=1, num_workers=0, persistent_workers=False)
    settings.sampler = dict(type="DefaultSampler", shuffle=True, seed=0)
    device = next(model.parameters()).device
    found: list[Tensor] = []
    for data in Runner.build_dataloader(settings):
        inputs = model.data_preprocessor(data)["inputs"].to(device)
        if inputs.ndim == 6:  # (1, views, C, T, H, W)
            middle = inputs.shape[1] // 2
            inputs = inputs[:, middle : middle + 1]
        if not found or inputs.shape == found[0].shape:
            found.append(inputs)
        if len(found) == size:
            break
    return torch.cat(found)
