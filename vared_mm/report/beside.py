"""Clips or images per second of several evaluated models beside each other, prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from vared_mm.fast.benchmark import conditions, timed_batch
from vared_mm.fast.engines import Network, prepared
from vared_mm.fast.sides import Settings
from vared_mm.report.comparison import check_comparable
from vared_mm.report.evaluated_model import evaluated_config, evaluated_model
from vared_mm.report.result import Result
from vared_mm.speed import interleaved


def speeds_beside(results: Mapping[str, Result], batch: int, repeats: int) -> dict[str, Any]:
    """`speeds` by name, and the `conditions` they hold under; `times` is over the first one's,
    `shape` that of the inputs.

    Each model takes turns with the others, on the same samples of the test set, as its own pipeline
    makes them, and with the choices that they lead to.

    Raises:
        IncomparableError: They are of different data or tasks.
        ValueError: A config or a checkpoint is other than its result tells, or images of the test
            set differ in size, so that models get batches of different numbers.
    """
    check_comparable(list(results.values()))
    runs, shapes = {}, {}
    for name, result in results.items():
        config = evaluated_config(result)
        model = evaluated_model(config, result).eval()
        inputs = timed_batch(model, config, batch)
        shapes[name] = tuple(inputs.shape)
        with torch.no_grad():
            runs[name] = partial(prepared(Network(model), inputs), inputs)
    counts = {shape[0] for shape in shapes.values()}
    if len(counts) > 1:
        raise ValueError(
            f"the models get batches of {sorted(counts)} samples of one size; give a --batch of "
            f"{min(counts)}"
        )
    with torch.no_grad():
        speeds = interleaved(runs, counts.pop(), repeats)
    first = next(iter(speeds.values())).median
    told = {
        name: {**vars(s), "times": s.median / first, "shape": shapes[name]}
        for name, s in speeds.items()
    }
    held = conditions(Settings(shape=None, repeats=repeats))
    del held["shape"]  # Of each model its own.
    return {"speeds": told, "conditions": held}


def lines_of(report: Mapping[str, Any]) -> list[Sequence[str]]:
    return [
        (
            name,
            " x ".join(map(str, s["shape"])),
            f"{s['median']:.1f} ({s['low']:.1f} to {s['high']:.1f})",
            f"{s['times']:.2f}",
        )
        for name, s in report["speeds"].items()
    ]
