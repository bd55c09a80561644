"""Static against dynamic networks on the clock, whole networks on inputs that are decoded already.

Every comparison is between sides that were seen to compute the same function: each static engine
answers as the eager network does, each dynamic one as the plain evaluation form with the same
gates. A gate whose answer is forced computes its own all the same.
"""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.fast.cases import Case, cases_of
from vared_mm.fast.engines import ENGINES, RIVALS, Network, Run
from vared_mm.fast.forced_shares import Plan, forced, sample_of_plan
from vared_mm.fast.latency import latency_table
from vared_mm.fast.prepare import apart
from vared_mm.fast.static_twin import static_twin
from vared_mm.fast.training_step import StepRow, training_steps
from vared_mm.flops import build_model, input_of
from vared_mm.speed import Speed, interleaved

Side = tuple[str, str, str]  # network, engine, what the gates are told

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.2}


class DifferentFunctionError(RuntimeError):
    """Two sides of a comparison do not compute the same."""


@dataclass(frozen=True)
class Settings:
    """What is measured: see `tools/benchmark.py --help`."""

    shape: tuple[int, ...] | None
    shares: tuple[str, ...] = ("paper", "min", "all")
    batches: tuple[int, ...] = (1, 8)
    engines: tuple[str, ...] = ("prepared",)
    against: tuple[str, ...] = ()
    mixed: bool = False
    layers: bool = False
    train: bool = False
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    repeats: int = 15
    warm_up: int = 1


@dataclass(frozen=True)
class Row:
    """One line of the table. Speed-up and ideal are over the static network in the same engine."""

    batch: int
    network: str
    engine: str
    gates: str
    share: float
    ms: float
    ms_quartiles: tuple[float, float]
    clips_per_s: float
    speedup: float | None
    ideal: float
    efficiency: float | None


def benchmark(config: Config, checkpoint: str | None, settings: Settings) -> dict[str, Any]:
    """The rows, and the conditions they hold under."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = build_model(config, checkpoint).to(settings.device)
    rows: list[Row] = []
    layers: dict[int, list[dict]] = {}
    steps: list[StepRow] = []
    for batch in settings.batches:
        inputs = inputs_of(model, config, settings, batch)
        if settings.train:
            wrapper = config.optim_wrapper
            steps += training_steps(model, wrapper, inputs, settings.repeats, settings.warm_up)
            continue
        with torch.no_grad():
            rows += measure(model, inputs, settings)
            if settings.layers:
                network = ENGINES["prepared"](Network(model), inputs)
                table = latency_table(network.model, partial(network, inputs))
                layers[batch] = [layer.as_json() for layer in table]
    report: dict[str, Any] = {"conditions": conditions(settings), "layers": layers}
    return {**report, "rows": list(map(asdict, rows)), "training": list(map(asdict, steps))}


def inputs_of(model: BaseModel, config: Config, settings: Settings, batch: int) -> Tensor:
    """Random clips of the given shape, or without one the first clips of the test set."""
    if settings.shape is not None:
        one = input_of(model, settings.shape)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, *one.shape[1:], generator=generator).to(settings.device)
    loader = config.test_dataloader.copy()
    loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    loader.sampler = dict(type="DefaultSampler", shuffle=True, seed=0)
    data = next(iter(Runner.build_dataloader(loader)))
    return model.data_preprocessor(data)["inputs"].to(settings.device)


def measure(model: nn.Module, inputs: Tensor, settings: Settings) -> list[Row]:
    """All engines, networks and gates on one batch, in turn in one run."""
    cases = cases_of(model, inputs, settings.shares)
    dtype = PRECISIONS[settings.precision]
    inputs = inputs.to(dtype)
    twin, dynamic = (Network(copy.deepcopy(m)).to(dtype) for m in (static_twin(model), model))
    with ExitStack() as hooks:
        runs = static_runs(twin, inputs, settings)
        runs |= dynamic_runs(dynamic, inputs, settings, cases, hooks)
        speeds = interleaved(runs, len(inputs), settings.repeats, settings.warm_up)
    return rows_of(speeds, cases, len(inputs))


def static_runs(twin: Network, inputs: Tensor, settings: Settings) -> dict[Side, Callable]:
    every: dict[str, Callable[[Network, Tensor], Run]] = {**ENGINES, **RIVALS}
    runs: dict[Side, Callable] = {}
    for engine in dict.fromkeys((*settings.engines, *settings.against)):
        run = every[engine](twin, inputs)
        refuse_difference(f"the static network in {engine}", run(inputs), twin(inputs))
        runs["static", engine, ""] = partial(run, inputs)
    return runs


def dynamic_runs(
    dynamic: Network, inputs: Tensor, settings: Settings, cases: Sequence[Case], hooks: ExitStack
) -> dict[Side, Callable]:
    if not cases:
        return {}
    # All are made before the first hook, which their copies would take over.
    networks = [ENGINES[engine](dynamic, inputs) for engine in settings.engines]
    judge = Planned(dynamic, hooks)
    runs: dict[Side, Callable] = {}
    for engine, network in zip(settings.engines, networks, strict=True):
        planned = judge if network is dynamic else Planned(network, hooks)
        for case in cases:
            came, expected = (p.run(case.plan, inputs) for p in (planned, judge))
            refuse_difference(f"the dynamic network in {engine}, {case.name}", came, expected)
            runs["dynamic", engine, case.name] = partial(planned.run, case.plan, inputs)
            if settings.mixed and case.name.endswith("different"):
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


def rows_of(speeds: dict[Side, Speed], cases: Sequence[Case], batch: int) -> list[Row]:
    shares = {case.name: case.share for case in cases}
    rows = []
    for (network, engine, gates), speed in speeds.items():
        static = speeds["static", engine, ""]
        ideal = 1 / shares.get(gates.removesuffix(", one by one"), 1.0)
        speedup = speed.median / static.median
        rows.append(Row(
            batch=batch, network=network, engine=engine, gates=gates, share=1 / ideal,
            ms=1000 * batch / speed.median,
            ms_quartiles=(1000 * batch / speed.high, 1000 * batch / speed.low),
            clips_per_s=speed.median, speedup=speedup, ideal=ideal, efficiency=speedup / ideal,
        ))  # fmt: skip
    return rows


def refuse_difference(what: str, came: Tensor, expected: Tensor) -> None:
    """Raises where two sides of a comparison do not compute the same function."""
    tolerance = TOLERANCES[expected.dtype]
    error = apart(came, expected)
    if not error <= tolerance:
        raise DifferentFunctionError(
            f"{what} answers something else than the plain form does: {tuple(came.shape)} against "
            f"{tuple(expected.shape)}, {error:.1e} of the largest number apart where "
            f"{tolerance:.0e} is allowed; their times cannot be compared"
        )


def conditions(settings: Settings) -> dict[str, Any]:
    on_gpu = settings.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if on_gpu else processor_name(),
        "threads": torch.get_num_threads(),
        "precision": settings.precision,
        "tf32": torch.backends.cudnn.allow_tf32 if on_gpu else False,
        "shape": settings.shape,
        "repeats": settings.repeats,
        "warm_up": settings.warm_up,
        "statistic": "median and quartiles of interleaved rounds",
        "decoding": "not included",
        "torch": torch.__version__,
    }


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
