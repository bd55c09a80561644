"""Tells each prediction what it cost, so that `CostMetric` can report it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from vared_mm.engine.around_forward import (
    Finish,
    Watching,
    around_steps,
    augmenting,
    model_inputs,
    unwrapped,
)
from vared_mm.engine.cost_metric import CostMetric, SampleCost, together
from vared_mm.engine.views import by_view, frames_of_view
from vared_mm.files import write_json
from vared_mm.method.errors import DynamicError
from vared_mm.method.flop_counter import FlopCounter
from vared_mm.method.observe import record_cost
from vared_mm.rivals.weight_pruning import record_uses, zero_macs, zeros_of
from vared_mm.settings import steps_of


@HOOKS.register_module()
class CostHook(Hook):
    """Attaches a `SampleCost` to every data sample that is predicted in validation and test.

    After a test it writes `cost.json` into the run's log folder: all metrics, with the cost of
    every layer beside the accuracy.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._watching: Watching | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        self._watch(runner, runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        self._watch(runner, runner.test_dataloader.dataset)

    def _watch(self, runner: Runner, dataset: Any) -> None:
        self._stack.close()  # of an evaluation that failed
        watch = CostWatch(runner.model, steps_of(dataset))
        self._watching = around_steps(runner, "predict", watch)
        self._stack.callback(self._watching)
        self._stack.enter_context(views_summed(runner.model))

    def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
        if self._watching:
            self._watching.refuse_unseen(type(self).__name__)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._stack.close()

    after_test_iter = after_val_iter

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._stack.close()
        if is_main_process():
            write_json(f"{runner.log_dir}/cost.json", cost_report(runner, metrics))


def cost_report(runner: Runner, metrics: dict[str, float] | None) -> dict[str, Any]:
    """A test's metrics and, where a `CostMetric` took part, its summary with every layer."""
    costs = [m.summary for m in runner.test_evaluator.metrics if isinstance(m, CostMetric)]
    # MMSegmentation's metrics are numpy's numbers, which JSON does not know.
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in (metrics or {}).items()}
    return {"metrics": plain, "cost": costs[0] if costs else None}


class CostWatch:
    """Watches one forward pass after the other and writes `mac_cost` into its data samples.

    Args:
        steps: Those of the pipeline, built, which may tell how many frames a view has.
    """

    def __init__(self, model: torch.nn.Module, steps: Sequence[Any] = ()) -> None:
        self.model = unwrapped(model)
        self._frames = frames_of_view(self.model, steps)
        self._static: dict[tuple, tuple[float, float]] = {}
        # Also within what holds a detector, as of a teacher and its student.
        parts = {name.rpartition(".")[2] for name, _ in self.model.named_modules()}
        self._varies = not parts.isdisjoint({"roi_head", "mask_head"})

    def __call__(self, stack: ExitStack, arguments: dict[str, Any]) -> Finish:
        inputs = input_tensors(model_inputs(arguments))
        shape = tuple(x.shape[1:] for x in inputs)
        # What is not dynamic costs the same for every input of one shape: counted once. But some
        # heads run on what others found; of a batch each has its mean.
        counter = None
        zeros: dict[str, int] = {}
        uses: dict[str, int] = {}
        if self._varies or shape not in self._static:
            counter = stack.enter_context(FlopCounter())
            zeros = zeros_of(self.model)
            uses = stack.enter_context(record_uses(self.model, zeros))
        record = stack.enter_context(record_cost(self.model))

        def finish(samples: list[Any]) -> list[Any]:
            if not isinstance(samples, list | tuple):
                raise DynamicError(
                    "CostHook tells each predicted data sample its cost, and wants a list of them "
                    f"from mode='predict'; came {type(samples).__name__}"
                )
            of_boxes = [name for name in record.names if "roi_head" in name.split(".")]
            if of_boxes and len(samples) > 1:
                raise DynamicError(
                    f"{of_boxes[0]} decides for each box, and how many boxes are of which image is "
                    f"not known: with it predict one image at a time (batch_size=1), not "
                    f"{len(samples)}"
                )
            tables = record.per_layer(len(samples))
            decisions = {k: v.cpu().numpy() for k, v in record.decisions(len(samples)).items()}
            if counter is not None:
                seen = counter.get_total_flops() / 2 - tables["full"].sum().item()
                self._static[shape] = seen / len(samples), zero_macs(zeros, uses) / len(samples)
            static, zero = self._static[shape]
            for i, sample in enumerate(samples):
                cost = SampleCost(
                    names=record.names,
                    frames=record.frames,
                    static=static,
                    zeros=zero,
                    views=by_view(inputs[0], self._frames).shape[1] if inputs else 1,
                    pixels=pixels_of(inputs),
                    gates={name: told[i] for name, told in decisions.items()},
                    **{kind: table[i].numpy() for kind, table in tables.items()},
                )
                attach(sample, cost)
            return samples

        return finish


def attach(sample: Any, cost: SampleCost) -> None:
    if isinstance(sample, BaseDataElement):
        sample.set_metainfo({"mac_cost": cost})
    elif isinstance(sample, dict):
        sample["mac_cost"] = cost
    else:
        raise DynamicError(
            "CostHook writes the cost into predicted data samples, BaseDataElement or dict; came "
            f"{type(sample).__name__}"
        )


def attached(sample: Any) -> SampleCost:
    return sample["mac_cost"] if isinstance(sample, dict) else sample.metainfo["mac_cost"]


@contextmanager
def views_summed(model: torch.nn.Module) -> Iterator[None]:
    """Under test-time augmentation a merged sample has the cost of all its views together."""
    augmentation: Any = augmenting(model)
    if augmentation is None:
        yield
        return
    merge = augmentation.merge_preds

    def merge_with_costs(lists: list[Any]) -> list[Any]:
        costs = [together([attached(view) for view in views]) for views in lists]
        merged = merge(lists)
        for sample, cost in zip(merged, costs, strict=True):
            attach(sample, cost)
        return merged

    augmentation.merge_preds = merge_with_costs
    try:
        yield
    finally:
        del augmentation.merge_preds


def input_tensors(inputs: Any) -> list[torch.Tensor]:
    """One for most models; several modalities come as a dict, several batches as a list."""
    if isinstance(inputs, torch.Tensor):
        return [inputs]
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs
    return [x for part in parts for x in input_tensors(part)]


def pixels_of(inputs: Sequence[torch.Tensor]) -> int | None:
    """H·W of a batch of images (N, C, H, W); what windows share is not counted twice."""
    if len(inputs) == 1 and inputs[0].ndim == 4:
        return inputs[0].shape[2] * inputs[0].shape[3]
    return None
