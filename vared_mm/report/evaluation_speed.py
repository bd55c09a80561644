"""Clips or images per second of a model and of its static twin, on the config's own inputs."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from vared_mm.fast.benchmark import Row, Settings, conditions, measure, timed_batch


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
