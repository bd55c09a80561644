"""From a trained dynamic network to a file, and what the file is worth.

    clips ─► what the gates chose ─► a policy ─► layers that pay ─► snapshot ─► file ─► tried on
    other clips

MACs are of convolutions and linear layers, for one clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.export.clips import Seen, clips_of, look, network_of
from vared_mm.export.nearest_plain import fitted
from vared_mm.export.paying import LayerTime, layer_times
from vared_mm.export.policy import Rows, covered, of_convs, rows_named
from vared_mm.export.snapshot import Forms, plain_forms, snapshot
from vared_mm.export.targets import TARGETS, Target
from vared_mm.fast.engines import Network, Run, prepared
from vared_mm.fast.isolated import isolated
from vared_mm.fast.same_answers import tolerance_of
from vared_mm.fast.sides import refuse_difference
from vared_mm.flops import build_model
from vared_mm.method.observe import dynamic_convs, forced_gates
from vared_mm.speed import Speed, in_turn


@dataclass(frozen=True)
class Settings:
    """See `tools/export.py --help`."""

    to: str = "onnx"
    policy: str = "most-frequent"
    clips: int = 64
    gates_that_pay: bool = True
    repeats: int = 15


@dataclass(frozen=True)
class Snapshot:
    """A network of plain modules, and which layers in it stand at the policy's choice."""

    network: Network
    rows: Rows | None
    kept: tuple[str, ...]


def export(config: Config, checkpoint: str, out: Path, settings: Settings) -> dict[str, Any]:
    """Writes the file, and tells what it is worth.

    Raises:
        ValueError: It cannot be made as wanted, or answers something else than the network.
    """
    target, model = TARGETS[settings.to], build_model(config, checkpoint)
    network = network_of(model)
    every = look(network, clips_of(model, config, 2 * settings.clips))
    # What is fitted to clips shall not be judged by them.
    seen, others = every.half(0), every.half(1)
    policy = rows_named(settings.policy, model, seen.gates, seen.dense)
    layers: list[LayerTime] = []
    if policy and settings.gates_that_pay:
        layers = layer_times(model, of_convs(policy, model), seen.sizes, target, settings.repeats)
    slow = [layer.name for layer in layers if not layer.pays]
    with TemporaryDirectory(dir=in_folder(out).parent, prefix=".export-") as folder:
        static = made(model, plain_forms(model), seen)
        files = {side: in_folder(Path(folder, side, out.name)) for side in ("static", "snapshot")}
        write(target, static, seen, files["static"])
        snap = snapshot_of(model, policy, slow, seen)
        write(target, snap.network, seen, files["snapshot"])
        speeds = timed_in_turn(settings.to, files, network, seen.clips[0], settings.repeats)
        slower = speeds["snapshot"].median < speeds["static"].median
        # Without a layer that pays, both are the same operations, and a difference is noise.
        fell_back = slower and any(layer.pays for layer in layers)
        if fell_back:
            snap = snapshot_of(model, None, [], seen)
            write(target, snap.network, seen, files["snapshot"])
            # The same operations on weights of the same shapes.
            speeds["snapshot"] = speeds["static"]
        told = tried(target, files["snapshot"], network, snap, others)
        for file in files["snapshot"].parent.iterdir():
            file.replace(out.parent / file.name)
    macs = {"static": macs_of(static, seen), "snapshot": macs_of(snap.network, seen)}
    macs["dynamic"] = macs["static"] - sum(others.spared) / len(others.spared)
    return {
        "file": str(out), "engine": target.engine, "policy": policy,
        "threads": torch.get_num_threads(),
        "precision": str(target.precision()).removeprefix("torch."),
        "inputs": ["batch", *seen.clips[0].shape[1:]], "clips": len(others.clips),
        "convolutions": len(dynamic_convs(model)), "frozen": list(snap.kept),
        "fell_back": fell_back, "layers": [*map(asdict, layers)],
        "coverage": None if policy is None else covered(policy, others.gates), **told,
        "rows": [row_of(side, macs[side], speeds[side]) for side in macs],
    }  # fmt: skip


def in_folder(file: Path) -> Path:
    """The file, whose folder is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def row_of(side: str, macs: float, speed: Speed) -> dict[str, Any]:
    ms = {"ms": 1000 / speed.median, "ms_quartiles": [1000 / speed.high, 1000 / speed.low]}
    return {"network": side, "gmacs": macs / 1e9, **ms}


@torch.no_grad()
def snapshot_of(model: nn.Module, rows: Rows | None, slow: Sequence[str], seen: Seen) -> Snapshot:
    """The policy `rows`, None for full, in all layers but `slow` ones.

    What computes all though the policy does not is fitted to what the policy answers, or for full,
    the gates' own choices.
    """
    answers = {} if rows is None else of_convs(rows, model)
    kept = {name: row for name, row in answers.items() if name not in slow}
    fit = set(dynamic_convs(model)) - set(kept)
    with ExitStack() as stack:
        if kept:
            stack.enter_context(forced_gates(model, answers))
        fits = stack.enter_context(fitted(model, fit))
        for clip in seen.clips if fit else ():
            network_of(model)(clip)
    forms: Forms = {**kept, **{name: one.nearest() for name, one in fits.items()}}
    return Snapshot(made(model, forms, seen), rows if kept else None, tuple(kept))


def made(model: nn.Module, forms: Forms, seen: Seen) -> Network:
    return network_of(snapshot(model, forms, seen.sizes)).requires_grad_(False)


def write(target: Target, network: Network, seen: Seen, path: Path) -> None:
    # A batch of one would be taken for the only one.
    target.write(network, seen.clips[0].repeat(2, *[1] * (seen.clips[0].ndim - 1)), path)


def macs_of(network: Network, seen: Seen) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(seen.clips[0])
    return counter.get_total_flops() / 2


@torch.no_grad()
def tried(
    target: Target, file: Path, network: Network, snap: Snapshot, seen: Seen
) -> dict[str, Any]:
    """What the file answers to the clips, beside the dynamic model with its own choices and with
    the policy.

    Raises:
        DifferentFunctionError: It answers something else than the snapshot in torch.
    """
    run = target.load(file)
    came = torch.cat([run(clip) for clip in seen.clips])
    expected = torch.cat([snap.network(clip) for clip in seen.clips])
    tolerance = tolerance_of(expected.to(target.precision()))
    refuse_difference(f"the file in {target.engine}", came, expected, tolerance)
    pair = seen.clips[:2] * (2 if len(seen.clips) == 1 else 1)
    at_once = run(torch.cat(pair))
    refuse_difference(
        "the file for a batch of 2", at_once, came[[0, len(seen.clips[1:2])]], tolerance
    )
    told: dict[str, Any] = {
        "dynamic": compared(came, torch.cat(seen.answers)),
        "policy_model": None,
    }
    if snap.rows is not None:
        with forced_gates(network.model, of_convs(snap.rows, network.model)):
            alike = torch.cat([network(clip) for clip in seen.clips])
        told["policy_model"] = compared(came, alike)
    if None not in seen.labels and came.ndim == 2:
        labels = torch.tensor(seen.labels)
        told["accuracy"] = {
            "file": right(came, labels), "dynamic": right(torch.cat(seen.answers), labels)
        }  # fmt: skip
    return told


def compared(came: Tensor, expected: Tensor) -> dict[str, float]:
    """The share of equal top-1 answers (of pixels, where each has one), and the largest difference
    of any score."""
    same = came.argmax(1) == expected.argmax(1)
    largest, scale = (came - expected).abs().max(), expected.abs().max()
    return {"agreement": float(same.float().mean()), "difference": float(largest),
            "largest_score": float(scale)}  # fmt: skip


def right(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(1) == labels).float().mean())


def timed_in_turn(
    to: str, files: dict[str, Path], network: Network, clip: Tensor, repeats: int
) -> dict[str, Speed]:
    """Each file on its engine and the dynamic network in ours, in a process each."""
    jobs: dict[str, Callable] = {
        side: partial(of_file, side, to, f, clip) for side, f in files.items()
    }
    jobs["dynamic"] = partial(of_network, network, clip)
    with isolated(jobs, 1) as clocks:
        return in_turn(clocks, 1, repeats)


def of_file(side: str, to: str, file: Path, clip: Tensor, stack: ExitStack) -> dict[str, Callable]:
    run: Run = TARGETS[to].load(file)
    return {side: partial(run, clip)}


def of_network(network: Network, clip: Tensor, stack: ExitStack) -> dict[str, Callable]:
    return {"dynamic": partial(prepared(network, clip), clip)}
