"""Static against dynamic networks on the clock, whole networks on inputs that are decoded already.

Every comparison is between sides that were seen to compute the same function: each static engine
answers as the eager network does, each dynamic one as the plain evaluation form with the same
gates. A gate whose answer is forced computes its own all the same. Several engines take turns, on a
CPU in a process each.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from vared_mm.engine.views import by_view, frames_of_view
from vared_mm.fast.cases import Case, cases_of, check_shares, usual_shares
from vared_mm.fast.engines import ENGINES, OTHER_PRECISIONS, Network
from vared_mm.fast.isolated import clocks_of
from vared_mm.fast.latency import latency_table
from vared_mm.fast.layers_beside import layers_beside
from vared_mm.fast.sides import PRECISIONS, Settings, Side, sides
from vared_mm.fast.static_twin import static_twin
from vared_mm.fast.tf32 import round_to_tf32, rounds_to_tf32
from vared_mm.fast.training_step import StepRow, training_steps
from vared_mm.flops import build_model, loader_of
from vared_mm.launch import use_amp
from vared_mm.settings import steps_of
from vared_mm.speed import Speed, in_turn
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


def benchmark(
    config: Config, checkpoint: str | None, settings: Settings,
    after_batch: Callable[[dict[str, Any]], object] = lambda report: None,
) -> dict[str, Any]:  # fmt: skip
    """The rows, and the conditions they hold under; `after_batch` is told of those so far."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    set_up_device(settings)
    model = build_model(config, checkpoint).to(settings.device)
    settings = replace(settings, shares=settings.shares or usual_shares(model))
    if not settings.train:
        check_shares(model, settings.shares)
    rows: list[Row] = []
    layers: dict[int, list[dict]] = {}
    beside: dict[int, list[dict]] = {}
    steps: list[StepRow] = []
    origin = "random" if settings.shape else "the first of the test set in one random order"
    for batch in settings.batches:
        inputs = inputs_of(model, config, settings, batch)
        batch = len(inputs)  # The test set may have fewer.
        if settings.train:
            if settings.precision == "bf16":
                use_amp(config, "bfloat16")
            wrapper = config.optim_wrapper
            steps += training_steps(model, wrapper, inputs, settings.repeats, settings.warm_up)
        else:
            with torch.no_grad():
                if settings.layers_beside:  # First, as it ends where there is no OpenVINO.
                    twin = Network(static_twin(model))
                    kinds = layers_beside(twin, inputs, settings.repeats)
                    beside[batch] = [kind._asdict() for kind in kinds]
                rows += measure(model, inputs, settings)
                if settings.layers:
                    prepared = (e for e in settings.engines if e.startswith("prepared"))
                    network = ENGINES[next(prepared, "prepared")](Network(model), inputs)
                    table = latency_table(network.model, partial(network, inputs))
                    layers[batch] = [layer.as_json() for layer in table]
        report = {
            "conditions": {**conditions(settings), "inputs": origin},
            "layers": layers, "layers_beside": beside,
            "rows": list(map(asdict, rows)), "training": list(map(asdict, steps)),
        }  # fmt: skip
        after_batch(report)
    return report


def set_up_device(settings: Settings) -> None:
    """The precision of float32 on a GPU, where cuDNN tries its algorithms for each size."""
    if is_on_gpu(settings):
        round_to_tf32(settings.precision == "tf32")
        torch.backends.cudnn.benchmark = True
    elif settings.precision == "tf32":
        raise ValueError(
            f"a GPU alone has the precision tf32; came with --device {settings.device}, where fp32 "
            "and bf16 would do"
        )


def is_on_gpu(settings: Settings) -> bool:
    return torch.device(settings.device).type == "cuda"


def inputs_of(model: BaseModel, config: Config, settings: Settings, batch: int) -> Tensor:
    """Random clips of the given shape, or without one those of the test set.

    Raises:
        ValueError: The model does not run on them.
    """
    if settings.shape is not None:
        one = input_of(model, settings.shape)
        with torch.no_grad():
            answer_of(model, one.to(settings.device))
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, *one.shape[1:], generator=generator).to(settings.device)
    return timed_batch(model, config, batch)


def timed_batch(model: BaseModel, config: Config, size: int) -> Tensor:
    """Inputs of the test set in random order, always the same: of a video one view, the middle one
    of its views; of images those of the first one's size.

    Raises:
        ValueError: The model does not predict by one pass over them.
    """
    device = next(model.parameters()).device
    loader = loader_of(config, shuffle=True)
    frames = frames_of_view(model, steps_of(loader.dataset))
    found: list[Tensor] = []
    for data in loader:
        refuse_augmented(data)
        inputs = only_tensor(model.data_preprocessor(data)["inputs"]).to(device)
        views = by_view(inputs, frames)
        middle = views[:, views.shape[1] // 2]
        inputs = middle.unsqueeze(1) if inputs.ndim == 6 else middle
        if not found or inputs.shape == found[0].shape:
            found.append(inputs)
        if len(found) == size:
            break
    refuse_windows(model, found[0])
    with torch.no_grad():
        answer_of(model, found[0])
    return torch.cat(found)


def refuse_augmented(data: Any) -> None:
    """Raises `ValueError` where there are several views of each sample of the batch."""
    inputs = data.get("inputs") if isinstance(data, dict) else None
    if isinstance(inputs, list | tuple) and isinstance(inputs[0], list | tuple):
        raise ValueError(
            "the test pipeline augments each sample (TestTimeAug), and a prediction is several "
            "passes; one pass is wanted, of a pipeline without"
        )


def only_tensor(inputs: Any) -> Tensor:
    """Raises `ValueError` where they are several."""
    if not isinstance(inputs, Tensor):
        raise ValueError(f"a pass over one tensor is timed; inputs came as {type(inputs).__name__}")
    return inputs


def window_of(model: nn.Module, size: Sequence[int]) -> tuple[int, int] | None:
    """By which a segmentor predicts pictures of `size` (H, W); None where it takes them whole."""
    settings = getattr(model, "test_cfg", None) or {}
    if not str(settings.get("mode")).startswith("slide"):
        return None
    height, width = settings["crop_size"]
    return (height, width) if height < size[0] or width < size[1] else None


def refuse_windows(model: Any, inputs: Tensor) -> None:
    """Raises `ValueError` for a segmentor that predicts by windows, of which no pass is whole."""
    size = tuple(inputs.shape[-2:])
    if window := window_of(model, size):
        raise ValueError(
            f"a {type(model).__name__} of test_cfg.mode={model.test_cfg['mode']!r} predicts by "
            f"windows of {window[0]} x {window[1]}, and what is timed is one pass, which would be "
            f"over {size[0]} x {size[1]}; vared-mm benchmark --shape {window[0]} {window[1]} times "
            "one over a window"
        )


def measure(model: nn.Module, inputs: Tensor, settings: Settings) -> list[Row]:
    """All engines, networks and gates on one batch, in turn in one run."""
    cases = cases_of(model, inputs, settings.shares)
    engines = dict.fromkeys((*settings.engines, *settings.against))
    jobs = {engine: partial(sides, engine, model, inputs, settings, cases) for engine in engines}
    apart = len(jobs) > 1 and not is_on_gpu(settings)
    with clocks_of(jobs, settings.warm_up, apart) as clocks:
        speeds = in_turn(clocks, len(inputs), range(settings.repeats))
    return rows_of(speeds, cases, len(inputs), settings)


def rows_of(
    speeds: dict[Side, Speed], cases: Sequence[Case], batch: int, settings: Settings
) -> list[Row]:
    """Of all static networks, then of the dynamic ones."""
    shares = {case.name: case.share for case in cases}
    rows = []
    for network, engine, gates in sorted(speeds, key=lambda side: side[0] != "static"):
        speed = speeds[network, engine, gates]
        dtype = str(OTHER_PRECISIONS.get(engine, PRECISIONS[settings.precision]))
        tf32 = settings.precision == "tf32"
        static = speeds["static", engine, ""]
        ideal = 1 / shares.get(gates.removesuffix(", one by one"), 1.0)
        speedup = speed.median / static.median
        rows.append(Row(
            batch=batch, network=network, engine=engine, gates=gates, share=1 / ideal,
            precision="tf32" if tf32 else dtype.removeprefix("torch."),
            ms=1000 * batch / speed.median,
            ms_quartiles=(1000 * batch / speed.high, 1000 * batch / speed.low),
            clips_per_s=speed.median, speedup=speedup, ideal=ideal, efficiency=speedup / ideal,
        ))  # fmt: skip
    return rows


def conditions(settings: Settings) -> dict[str, Any]:
    on_gpu = is_on_gpu(settings)
    return {
        "device": torch.cuda.get_device_name(settings.device) if on_gpu else processor_name(),
        "threads": torch.get_num_threads(),
        "precision": settings.precision,
        "tf32": rounds_to_tf32() if on_gpu else False,
        "shape": settings.shape,
        "repeats": settings.repeats,
        "warm_up": settings.warm_up,
        "statistic": "median and quartiles of interleaved rounds",
        "processes": "one" if on_gpu else processes_of(settings),
        "decoding": "not included",
        "torch": torch.__version__,
    }


def processes_of(settings: Settings) -> str:
    """On a CPU."""
    stopped = "stopped while another is timed"
    if settings.train:
        return f"one for each network, {stopped}"
    several = len({*settings.engines, *settings.against}) > 1
    return f"one for each engine, {stopped}" if several else "one"


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
