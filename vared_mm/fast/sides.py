"""What is compared: networks in engines, each seen to compute the function that it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.fast.cases import Case
from vared_mm.fast.engines import ENGINES, OTHER_PRECISIONS, RIVALS, Network, Run, taken
from vared_mm.fast.forced_shares import Plan, answering, forced, sample_of_plan
from vared_mm.fast.gpu.captured import Captured
from vared_mm.fast.same_answers import apart, tolerance_of
from vared_mm.fast.static_twin import static_twin

Side = tuple[str, str, str]  # network, engine, what the gates are told

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


# Engines that run a copy for each plan, whose gates answer it by themselves.
OF_THEMSELVES = ("prepared", "prepared-bf16")


class DifferentFunctionError(RuntimeError):
    """Two sides of a comparison do not compute the same."""


@dataclass(frozen=True)
class Settings:
    """What is measured: see `tools/benchmark.py --help`."""

    shape: tuple[int, ...] | None
    shares: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 8)
    engines: tuple[str, ...] = ("prepared",)
    against: tuple[str, ...] = ()
    mixed: bool = False
    layers: bool = False
    layers_beside: bool = False
    train: bool = False
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    repeats: int = 15
    warm_up: int = 1


def sides(
    engine: str, model: nn.Module, inputs: Tensor, settings: Settings, cases: Sequence[Case],
    hooks: ExitStack,
) -> dict[Side, Callable]:  # fmt: skip
    """What runs in an engine: the static network, and in ours the dynamic one as each case says."""
    dtype = PRECISIONS[settings.precision]
    inputs, twin = inputs.to(dtype), Network(static_twin(model)).to(dtype)
    every: dict[str, Callable[[Network, Tensor], Run]] = {**ENGINES, **RIVALS}
    if inputs.is_cuda:
        # As cuDNN is fastest.
        channels_last(twin)
    with taken(engine, model) if engine in RIVALS else nullcontext():
        run = every[engine](twin, inputs)
        came = run(inputs)
    expected = twin(inputs)
    lowest = tolerance_of(expected.to(OTHER_PRECISIONS.get(engine, dtype)))
    refuse_difference(f"the static network in {engine}", came, expected, lowest)
    runs: dict[Side, Callable] = {("static", engine, ""): partial(run, inputs)}
    if engine in settings.engines and cases:
        dynamic = Network(copy.deepcopy(model)).to(dtype)
        runs |= dynamic_runs(engine, dynamic, inputs, settings.mixed, cases, hooks)
    return runs


def dynamic_runs(
    engine: str, dynamic: Network, inputs: Tensor, mixed: bool, cases: Sequence[Case],
    hooks: ExitStack,
) -> dict[Side, Callable]:  # fmt: skip
    # Made before the first hook, which its copies would take over, and which would be timed with
    # the network.
    network = ENGINES[engine](dynamic, inputs)
    plans = [case.plan if engine in OF_THEMSELVES else None for case in cases]
    owns = [answering(dynamic.model, plan) for plan in plans]
    judge = Planned(dynamic, hooks)
    planned = judge if network is dynamic else Planned(network, hooks)
    runs: dict[Side, Callable] = {}
    for case, own in zip(cases, owns, strict=True):
        run: Run = partial(planned.run, case.plan)
        if own is not None:
            run = ENGINES[engine](Network(own), inputs)
        elif engine == "captured":
            run = Captured(run)
        came, expected = run(inputs), judge.run(case.plan, inputs)
        lowest = tolerance_of(expected.to(OTHER_PRECISIONS.get(engine, expected.dtype)))
        refuse_difference(f"the dynamic network in {engine}, {case.name}", came, expected, lowest)
        runs["dynamic", engine, case.name] = partial(run, inputs)
        if mixed and case.name.endswith("different"):
            apart = partial(planned.run_apart, case.plan, inputs)
            runs["dynamic", engine, f"{case.name}, one by one"] = apart
    return runs


class Planned:
    """A dynamic network whose gates follow a plan, as long as `hooks` is open."""

    def __init__(self, network: Network, hooks: ExitStack) -> None:
        self.network, self.follow = network, hooks.enter_context(forced(network.model))

    def run(self, plan: Plan | None, inputs: Tensor) -> Tensor:
        self.follow(plan)
        return self.network(inputs)

    def run_apart(self, plan: Plan | None, inputs: Tensor) -> None:
        """Each sample by itself: what a batch of unlike samples is measured by."""
        for i in range(len(inputs)):
            own = None if plan is None else sample_of_plan(plan, i, len(inputs))
            self.run(own, inputs[i : i + 1])


def refuse_difference(
    what: str,
    came: Tensor,
    expected: Tensor,
    tolerance: float | None = None,
    so: str = "their times cannot be compared",
) -> None:
    """Raises where two sides of a comparison do not compute the same function.

    Args:
        tolerance: Of the largest number; by default that of the precision expected.
        so: What follows from that.
    """
    tolerance = tolerance or tolerance_of(expected)
    error = apart(came, expected)
    if not error <= tolerance:
        raise DifferentFunctionError(
            f"{what} answers something else than the plain form does: {tuple(came.shape)} against "
            f"{tuple(expected.shape)}, {error:.1e} of the largest number apart where "
            f"{tolerance:.0e} is allowed; {so}"
        )
