"""The policies that cover most clips, a file each, and a router that tells which is for a clip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from vared_mm.export.fitted_snapshot import Snapshot, snapshot_of, write
from vared_mm.export.one_policy import paying_snapshot
from vared_mm.export.policy import Rows, counted, most_frequent, nearest
from vared_mm.export.router import Router, router
from vared_mm.export.targets import TARGETS, ExportError, Target
from vared_mm.export.trained import Settings, Trained, conditions
from vared_mm.export.trial import (
    answers_to,
    checked,
    jobs_of,
    kept,
    rows_of,
    timed_in_turn,
)
from vared_mm.fast.engines import Run
from vared_mm.fast.sides import refuse_difference
from vared_mm.method.flop_counter import counted_macs
from vared_mm.report.policies import KEPT
from vared_mm.screen import tracked
from vared_mm.speed import Speed


def export_policies(of: Trained, out: Path, settings: Settings) -> dict[str, Any]:
    """Into the folder `out`: policy-0, which most clips chose, policy-1, ..., and router."""
    target, clips, suffix = settings.target, of.others.clips, settings.target.suffix
    policies = first_policies(of, settings.policies)
    nets = {"static": snapshot_of(of.model, None, [], of.seen)}
    for i, rows in enumerate(policies):
        nets[f"policy-{i}"] = paying_snapshot(of, rows, settings)[0]
    own = torch.from_numpy(nearest(policies, of.seen.gates)[0])
    decide = router(nets["static"].network, next(iter(of.seen.sizes)), of.seen.clips, own)
    out.mkdir(parents=True, exist_ok=True)
    # On the disk of `out`, which may be another than its parent's.
    with TemporaryDirectory(dir=out, prefix=".export-") as folder:
        files = {
            name: write(target, net.network, clips[0], Path(folder, name, name + suffix))
            for name, net in tracked(nets.items(), len(nets), "files")
        }
        deciding = write(target, decide, clips[0], Path(folder, "router", "router" + suffix))
        several = [file for name, file in files.items() if name != "static"]
        jobs = jobs_of(files, target, of.network, clips[0])
        jobs["routed"] = partial(of_routed, settings.to, deciding, several)
        fell_back: list[str] = []
        while True:
            speeds = timed_in_turn(jobs, clips, settings.repeats)
            slow = slower_than_static(speeds, nets) if settings.gates_that_pay else []
            if not slow:
                break
            for name in slow:
                nets[name] = nets["static"]
                write(target, nets[name].network, clips[0], files[name])
            fell_back += slow
        # Where nothing is left out, they are the same operations, and a difference is noise.
        speeds |= {name: speeds["static"] for name, net in nets.items() if not net.kept}
        routes = checked_router(target, deciding, decide, clips)
        pairs = tracked(nets.items(), len(nets), "files tried")
        came = {name: checked(target, files[name], net.network, clips) for name, net in pairs}
        remove_former(out)
        for made in (*several, deciding):
            kept(made, out)
    macs = {name: counted_macs(net.network, clips[0]) for name, net in nets.items()}
    taken = [f"policy-{i}" for i in routes.tolist()]
    came["routed"] = torch.stack([came[name][i] for i, name in enumerate(taken)])
    macs["routed"] = counted_macs(decide, clips[0]) + mean([macs[name] for name in taken])
    came["dynamic"], macs["dynamic"] = of.answers, macs["static"] - of.others.spared_by_clip
    chosen, alike = nearest(policies, of.others.gates)
    return {
        "file": str(out), **conditions(of, settings), "policies": policies,
        "frozen": [list(net.kept) for name, net in nets.items() if name != "static"],
        "fell_back": sorted(fell_back),
        "coverage": float(alike.mean()),
        "router": {
            "shares": [float((routes == i).float().mean()) for i in range(len(policies))],
            "agreement": float((alike & (routes.numpy() == chosen)).mean()),
        },
        "rows": rows_of(macs, speeds, came, of.others.labels, of.best),
    }  # fmt: skip


def remove_former(folder: Path) -> None:
    """The files of an export before, whose numbers of policies mean others; first their router."""
    for file in sorted(folder.iterdir(), reverse=True):
        if re.fullmatch(r"(router|policy-\d+)\.(onnx(\.data)?|xml|bin|pt2)", file.name):
            file.unlink()


def slower_than_static(speeds: Mapping[str, Speed], nets: Mapping[str, Snapshot]) -> list[str]:
    """Policies that leave something out, and whose files take longer all the same."""
    static = speeds["static"].median
    return [name for name, net in nets.items() if net.kept and speeds[name].median < static]


def first_policies(of: Trained, count: int) -> list[Rows]:
    """Raises `ExportError` where the clips chose fewer."""
    found = most_frequent(counted(of.seen.gates))
    if len(found) < count:
        fewer = f"--policies {len(found)}" if len(found) > 1 else "--policy most-frequent"
        # No more are told apart, however many clips there are.
        more = "" if len(found) == KEPT else ", or more --clips"
        raise ExportError(
            f"--policies is {count}, and the {len(of.seen.clips)} clips chose no more than "
            f"{len(found)} that are counted; give {fewer}{more}"
        )
    return found[:count]


def checked_router(target: Target, file: Path, router: Router, clips: Sequence[Tensor]) -> Tensor:
    """(clips,) what its file answers.

    Raises:
        DifferentFunctionError: Policies that it does not find best in torch.
    """
    came = answers_to(clips, target.exact(file))
    scores = answers_to(clips, router.scores)
    # Of two that are equally good, another engine may take the other.
    best, taken = scores.amax(1), scores.gather(1, came[:, None].long())[:, 0]
    refuse_difference(f"the router in {target.engine}", taken, best, so="it is not kept")
    return came.long()


def of_routed(to: str, router: Path, files: Sequence[Path]) -> Run:
    """Each clip by the file that the router tells."""
    decide, runs = TARGETS[to].exact(router), [TARGETS[to].load(file) for file in files]
    return lambda clip: runs[int(decide(clip))](clip)
