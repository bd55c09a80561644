"""What files are worth: what they answer to clips, MACs and milliseconds.

MACs are of convolutions and linear layers, for one clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.export.clips import Best
from vared_mm.export.targets import Target
from vared_mm.fast.engines import Network, Run, prepared
from vared_mm.fast.isolated import Job, clocks_of
from vared_mm.fast.sides import refuse_difference
from vared_mm.screen import tracked
from vared_mm.speed import Speed, in_turn

# Clips of one timing: a dynamic network takes another time for each.
TIMED = 8


@torch.no_grad()
def answers_to(clips: Sequence[Tensor], run: Run) -> Tensor:
    """(clips, ...), asked one by one."""
    return torch.cat([run(clip) for clip in clips])


def checked(
    target: Target, file: Path, network: nn.Module, clips: Sequence[Tensor], batches: bool = True
) -> Tensor:
    """(clips, ...) what the file answers.

    Args:
        batches: Whether it takes several clips at once.

    Raises:
        DifferentFunctionError: In float32 that is something else than the network in torch does.
    """
    run, wanted = target.exact(file), answers_to(clips, network)
    what, so = f"the file in {target.engine}", "it is not kept"
    refuse_difference(what, answers_to(clips, run), wanted, so=so)
    if batches:
        # Of a single clip, that twice.
        ends = torch.tensor([0, len(clips) - 1])
        at_once = run(torch.cat([clips[i] for i in ends]))
        refuse_difference("the file for a batch of 2", at_once, wanted[ends], so=so)
    return answers_to(clips, target.load(file))


def compared(came: Tensor, expected: Tensor, best: Best | None) -> dict[str, float | None]:
    """The share of equal top-1 answers (of pixels, where each has one), None where nothing is
    `best`, as what is answered are no scores; and the largest difference of any number."""
    same = float((best(came) == best(expected)).float().mean()) if best else None
    largest, scale = (came - expected).abs().max(), expected.abs().max()
    return {"agreement": same, "difference": float(largest), "largest_score": float(scale)}


def accuracy(scores: Tensor, labels: Sequence[int | None]) -> float | None:
    """None where a clip has no single label."""
    if None in labels or scores.ndim != 2:
        return None
    return float((scores.argmax(1) == torch.tensor(labels)).float().mean())


def jobs_of(
    files: Mapping[str, Path], target: Target, dynamic: Network, clip: Tensor
) -> dict[str, Callable[[], Run]]:
    """What runs each file, and the dynamic network, prepared in torch."""
    jobs: dict[str, Callable[[], Run]]
    jobs = {side: partial(target.load, file) for side, file in files.items()}
    return {**jobs, "dynamic": partial(prepared, dynamic, clip)}


def timed_in_turn(
    jobs: Mapping[str, Callable[[], Run]], clips: Sequence[Tensor], repeats: int
) -> dict[str, Speed]:
    """Each in a process of its own, over the same clips, one by one."""
    clips = clips[:TIMED]
    sides: dict[str, Job] = {side: partial(side_of, side, job, clips) for side, job in jobs.items()}
    with clocks_of(sides, 1) as clocks:
        return in_turn(clocks, len(clips), tracked(range(repeats), repeats, "rounds timed"))


def side_of(
    side: str, job: Callable[[], Run], clips: Sequence[Tensor], stack: ExitStack
) -> dict[str, Callable[[], object]]:
    return {side: partial(answers_to, clips, job())}


def kept(file: Path, folder: Path) -> None:
    """Moves a file that was written in a folder of its own, with what belongs to it."""
    for part in file.parent.iterdir():
        part.replace(folder / part.name)


def rows_of(
    macs: Mapping[str, float], speeds: Mapping[str, Speed], answers: Mapping[str, Tensor],
    labels: Sequence[Any], best: Best | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The lines of the table, in the order of `macs`.

    Args:
        answers: (clips, ...) of each, "dynamic" among them.
        best: None where they are no scores of classes.
    """
    rows = []
    for side, own in macs.items():
        came, speed = answers[side], speeds[side]
        rows.append({
            "network": side, "gmacs": own / 1e9, "ms": 1000 / speed.median,
            "ms_quartiles": [1000 / speed.high, 1000 / speed.low],
            "agreement": compared(came, answers["dynamic"], best)["agreement"],
            "accuracy": accuracy(came, labels) if best else None,
        })  # fmt: skip
    return rows
