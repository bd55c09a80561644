"""From a trained dynamic network to a static one in a file, and what that is worth.

clips ─► what the gates chose ─► a policy ─► layers that pay ─► snapshot ─► file ─► tried on
other clips
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from vared_mm.export.fitted_snapshot import Snapshot, snapshot_of, write
from vared_mm.export.paying import LayerTime, layer_times
from vared_mm.export.policy import Choose, Rows, covered, of_convs
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
from vared_mm.method.observe import forced_gates
from vared_mm.screen import tracked


def export_policy(choose: Choose, of: Trained, out: Path, settings: Settings) -> dict[str, Any]:
    seen = of.seen
    policy = choose(seen.gates, seen.dense, seen.frames)
    static = snapshot_of(of.model, None, [], of.seen)
    snap, layers = paying_snapshot(of, policy, settings)
    with TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        files = {
            side: write(
                settings.target, one.network, of.seen.clips[0], Path(folder, side, out.name)
            )
            for side, one in tracked([("static", static), ("snapshot", snap)], 2, "files")
        }
        jobs = jobs_of(files, settings.target, of.network, of.seen.clips[0])
        speeds = timed_in_turn(jobs, of.others.clips, settings.repeats)
        # Without a layer that pays, both are the same operations, and a difference is noise.
        fell_back = any(layer.pays for layer in layers) and slower(speeds)
        if fell_back:
            snap, files["snapshot"] = static, files["static"]
        if not snap.kept:
            speeds["snapshot"] = speeds["static"]
        came = checked(settings.target, files["snapshot"], snap.network, of.others.clips)
        kept(files["snapshot"], out.parent)
    answers = {
        "static": answers_to(of.others.clips, static.network),
        "snapshot": came, "dynamic": of.answers,
    }  # fmt: skip
    macs = {"static": counted_macs(static.network, of.seen.clips[0])}
    macs["snapshot"] = counted_macs(snap.network, of.seen.clips[0])
    macs["dynamic"] = macs["static"] - of.others.spared_by_clip
    return {
        "file": str(out), **conditions(of, settings), "policy": policy,
        "frozen": list(snap.kept), "fell_back": fell_back, "layers": [*map(asdict, layers)],
        "coverage": None if policy is None else covered([policy], of.others.gates),
        "dynamic": compared(came, of.answers, of.best),
        "policy_model": policy_parity(of, snap.rows, came),
        "rows": rows_of(macs, speeds, answers, of.others.labels, of.best),
    }  # fmt: skip


def paying_snapshot(
    of: Trained, policy: Rows | None, settings: Settings
) -> tuple[Snapshot, list[LayerTime]]:
    """At the policy where layers are faster so; and how fast they are."""
    layers: list[LayerTime] = []
    if policy and settings.gates_that_pay:
        rows = of_convs(policy, of.model)
        layers = layer_times(of.model, rows, of.seen.sizes, settings.target, settings.repeats)
    slow = [layer.name for layer in layers if not layer.pays]
    return snapshot_of(of.model, policy, slow, of.seen), layers


def slower(speeds: dict[str, Any]) -> bool:
    return speeds["snapshot"].median < speeds["static"].median


@torch.no_grad()
def policy_parity(of: Trained, rows: Rows | None, came: Tensor) -> dict[str, Any] | None:
    """Against the dynamic model at the same policy."""
    if rows is None:
        return None
    with forced_gates(of.model, of_convs(rows, of.model)):
        return compared(came, answers_to(of.others.clips, of.network), of.best)
