"""Tells each prediction what it cost, so that `CostMetric` can report it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.engine.around_forward import Finish, around_forward, unwrapped
from vared_mm.engine.cost_metric import CostMetric, SampleCost
from vared_mm.files import write_json
from vared_mm.method.observe import record_cost


@HOOKS.register_module()
class CostHook(Hook):
    """Attaches a `SampleCost` to every data sample that is predicted in validation and test.

    After a test it writes `cost.json` into the run's log folder: all metrics, with the cost of
    every layer beside the accuracy.
    """

    def __init__(self) -> None:
        self._end: Callable[[], None] = lambda: None

    def before_val_epoch(self, runner: Runner) -> None:
        self._end()  # of an evaluation that failed
        self._end = around_forward(unwrapped(runner.model), "predict", CostWatch(runner.model))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._end()

    before_test_epoch = before_val_epoch

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._end()
        if is_main_process():
            write_json(f"{runner.log_dir}/cost.json", cost_report(runner, metrics))


def cost_report(runner: Runner, metrics: dict[str, float] | None) -> dict[str, Any]:
    """A test's metrics and, where a `CostMetric` took part, its summary with every layer."""
    costs = [m.summary for m in runner.test_evaluator.metrics if isinstance(m, CostMetric)]
    # MMSegmentation's metrics are numpy's numbers, which JSON does not know.
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in (metrics or {}).items()}
    return {"metrics": plain, "cost": costs[0] if costs else None}


class CostWatch:
    """Watches one forward pass after the other and writes `mac_cost` into its data samples."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = unwrapped(model)
        self._static: dict[tuple[int, ...], float] = {}

    def __call__(self, stack: ExitStack, kwargs: dict[str, Any]) -> Finish:
        inputs = kwargs["inputs"]
        shape = tuple(inputs.shape[1:])
        # What is not dynamic costs the same for every input of one shape: counted once.
        counter = None
        if shape not in self._static:
            counter = stack.enter_context(FlopCounterMode(display=False))
        record = stack.enter_context(record_cost(self.model))

        def finish(samples: list[Any]) -> list[Any]:
            tables = record.per_layer(len(samples))
            if counter is not None:
                seen = counter.get_total_flops() / 2 - tables["full"].sum().item()
                self._static[shape] = seen / len(samples)
            for i, sample in enumerate(samples):
                cost = SampleCost(
                    names=record.names,
                    static=self._static[shape],
                    views=views_of(inputs),
                    pixels=pixels_of(inputs),
                    **{kind: table[i].numpy() for kind, table in tables.items()},
                )
                sample.set_metainfo({"mac_cost": cost})
            return samples

        return finish


def views_of(inputs: torch.Tensor) -> int:
    """How many clips one sample holds: MMAction2's 3-D input is (N, views, C, T, H, W)."""
    return inputs.shape[1] if inputs.ndim == 6 else 1


def pixels_of(inputs: torch.Tensor) -> int | None:
    """H·W of a batch of images (N, C, H, W); what windows share is not counted twice."""
    return inputs.shape[2] * inputs.shape[3] if inputs.ndim == 4 else None
