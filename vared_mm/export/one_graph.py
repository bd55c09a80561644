"""A trained dynamic network as one graph that chooses by itself, for batches of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from vared_mm.export.choosing_conv import ChoosingConv
from vared_mm.export.fitted_snapshot import plain_network, snapshot_of
from vared_mm.export.targets import ExportError
from vared_mm.export.trained import Settings, Trained, conditions
from vared_mm.export.trial import (
    answers_to,
    checked,
    compared,
    jobs_of,
    kept,
    rows_of,
    timed_in_turn,
)
from vared_mm.method.flop_counter import counted_macs
from vared_mm.method.frozen import leaders_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.screen import tracked

# Every path of a gate is a branch, which converters and engines hold at once.
GATES = 16


def export_graph(of: Trained, out: Path, settings: Settings) -> dict[str, Any]:
    refuse_rows(of.seen.gates)
    convs, clips = dynamic_convs(of.model), of.others.clips
    graph = plain_network(of.model, {n: ChoosingConv(c) for n, c in convs.items()}, of.seen)
    static = snapshot_of(of.model, None, [], of.seen).network
    with TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        files = {side: Path(folder, side, out.name) for side in ("static", "graph")}
        pairs = zip(files.values(), (static, graph), strict=True)
        for file, network in tracked(pairs, 2, "files"):
            file.parent.mkdir()
            settings.target.write(network, clips[0], file)
        jobs = jobs_of(files, settings.target, of.network, clips[0])
        speeds = timed_in_turn(jobs, clips, settings.repeats)
        came = checked(settings.target, files["graph"], of.network, clips, batches=False)
        kept(files["graph"], out.parent)
    answers = {"static": answers_to(clips, static), "graph": came, "dynamic": of.answers}
    macs = {"static": counted_macs(static, clips[0])}
    # Its branches compute the same; Φ of paths that are closed comes to next to nothing.
    macs["graph"] = macs["dynamic"] = macs["static"] - of.others.spared_by_clip
    report = {
        "file": str(out), **conditions(of, settings),
        "dynamic": compared(came, of.answers, of.best),
        "rows": rows_of(macs, speeds, answers, of.others.labels, of.best),
    }  # fmt: skip
    return {**report, "inputs": [1, *report["inputs"][1:]]}


def refuse_rows(gates: Sequence[Mapping[str, Tensor]]) -> None:
    """Raises `ExportError` where one of a clip's gates decides more than once."""
    rows = max(answer.shape[2] for answer in gates[0].values())
    if rows > 1:
        raise ExportError(
            "--policy dynamic writes a graph that chooses once for a clip, and the network's gates "
            f"decide for each of its {rows} frames; give --policies 4, or --policy most-frequent"
        )


def refuse_gates(model: nn.Module) -> None:
    """Raises `ExportError` where there are none, or too many."""
    count = len(set(leaders_of(model).values()))
    if not 0 < count <= GATES:
        raise ExportError(
            f"--policy dynamic writes branches for each gate, and the network has {count}; wanted "
            f"1 to {GATES}. "
            + ("Give --policies 4, which needs no branches, or make fewer convolutions dynamic "
               "(dynamic.targets), or those of a block by one gate (dynamic.share)" if count
               else "Give --policy full, or the dynamic model's config")
        )  # fmt: skip
