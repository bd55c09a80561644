"""Static against dynamic networks on the clock, whole networks on inputs that are decoded already.

Every comparison is between sides that were seen to compute the same function: each static engine
answers as the eager network does, each dynamic one as the plain evaluation form with the same
gates. A gate whose answer is forced computes its own all the same. Several engines run in a process
each, and take turns.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from vared_mm.fast.cases import Case, cases_of
from vared_mm.fast.engines import ENGINES, OTHER_PRECISIONS, Network
from vared_mm.fast.isolated import isolated
from vared_mm.fast.latency import latency_table
from vared_mm.fast.sides import PRECISIONS, Settings, Side, sides
from vared_mm.fast.training_step import StepRow, training_steps
from vared_mm.flops import build_model, loader_of
from vared_mm.speed import Speed, in_turn, timed
from vared_mm.tensor_form import answer_of, input_of


@dataclass(frozen=True)
class Row:
    """One line of the table. Speed-up and ideal are over the static network in the same engine."""

    batch: int
    network: str
    engine: str
    gates: str
    precision: str
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
            with torch.no_grad():
                answer_of(model, inputs[:1])
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
    data = next(iter(loader_of(config, batch, shuffle=True)))
    try:
        return model.data_preprocessor(data)["inputs"].to(settings.device)
    except AssertionError as error:
        raise ValueError(f"the test set gives no batch of {batch}: {error}") from error


def measure(model: nn.Module, inputs: Tensor, settings: Settings) -> list[Row]:
    """All engines, networks and gates on one batch, in turn in one run."""
    answer_of(model, inputs[:1])
    cases = cases_of(model, inputs, settings.shares)
    engines = dict.fromkeys((*settings.engines, *settings.against))
    jobs = {engine: partial(sides, engine, model, inputs, settings, cases) for engine in engines}
    with ExitStack() as stack:
        if len(jobs) > 1:
            clocks = stack.enter_context(isolated(jobs, settings.warm_up))
        else:
            runs = next(iter(jobs.values()))(stack)
            clocks = {side: partial(timed, run, settings.warm_up) for side, run in runs.items()}
        speeds = in_turn(clocks, len(inputs), settings.repeats)
    return rows_of(speeds, cases, len(inputs), settings)


def rows_of(
    speeds: dict[Side, Speed], cases: Sequence[Case], batch: int, settings: Settings
) -> list[Row]:
    """Of all static networks, then of the dynamic ones."""
    shares = {case.name: case.share for case in cases}
    rows = []
    for network, engine, gates in sorted(speeds, key=lambda side: side[0] != "static"):
        speed = speeds[network, engine, gates]
        dtype = OTHER_PRECISIONS.get(engine, PRECISIONS[settings.precision])
        static = speeds["static", engine, ""]
        ideal = 1 / shares.get(gates.removesuffix(", one by one"), 1.0)
        speedup = speed.median / static.median
        rows.append(Row(
            batch=batch, network=network, engine=engine, gates=gates, share=1 / ideal,
            precision=str(dtype).removeprefix("torch."),
            ms=1000 * batch / speed.median,
            ms_quartiles=(1000 * batch / speed.high, 1000 * batch / speed.low),
            clips_per_s=speed.median, speedup=speedup, ideal=ideal, efficiency=speedup / ideal,
        ))  # fmt: skip
    return rows


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
        "processes": "one for each engine, stopped while another is timed"
        if len({*settings.engines, *settings.against}) > 1
        else "one",
        "decoding": "not included",
        "torch": torch.__version__,
    }


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
