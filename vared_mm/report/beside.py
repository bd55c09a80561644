"""Clips or images per second of several evaluated models beside each other, prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from vared_mm.fast.benchmark import conditions
from vared_mm.fast.engines import Network, prepared
from vared_mm.fast.sides import Settings
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.report.comparison import check_comparable
from vared_mm.report.evaluation_key import weights_digest
from vared_mm.report.evaluation_speed import timed_batch
from vared_mm.report.result import Result
from vared_mm.speed import interleaved


def speeds_beside(results: Mapping[str, Result], batch: int, repeats: int) -> dict[str, Any]:
    """`speeds` by name, and the `conditions` they hold under; `times` is over the first one's.

    Each model takes turns with the others, on the same samples of the test set, as its own pipeline
    makes them, and with the choices that they lead to.

    Raises:
        IncomparableError: They are of different data or tasks.
        ValueError: A checkpoint holds other weights than its result tells of.
    """
    check_comparable(list(results.values()))
    runs = {}
    for name, result in results.items():
        config = config_of(result.config, result.options)
        model = build_model(config, result.checkpoint).eval()
        if result.weights not in (None, weights_digest(model.state_dict())):
            raise ValueError(
                f"{result.checkpoint} holds other weights than {name} tells of; test it again"
            )
        inputs = timed_batch(model, config, batch)
        with torch.no_grad():
            runs[name] = partial(prepared(Network(model), inputs), inputs)
    with torch.no_grad():
        speeds = interleaved(runs, len(inputs), repeats)
    first = next(iter(speeds.values())).median
    told = {name: {**vars(s), "times": s.median / first} for name, s in speeds.items()}
    settings = Settings(shape=tuple(inputs.shape), repeats=repeats)
    return {"speeds": told, "conditions": {**conditions(settings), "batch": len(inputs)}}


def lines_of(report: Mapping[str, Any]) -> list[Sequence[str]]:
    return [
        (name, f"{s['median']:.1f} ({s['low']:.1f} to {s['high']:.1f})", f"{s['times']:.2f}")
        for name, s in report["speeds"].items()
    ]
