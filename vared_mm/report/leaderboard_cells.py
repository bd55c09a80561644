"""The cells of a board: a text to read and a number to compare by, of one or several results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from vared_mm.report.result import Result
from vared_mm.report.same_model import options_of

MISSING = "–"


class Cell(NamedTuple):
    """Without a number it is text; `std` is told of several results."""

    text: str
    value: float | None = None
    std: float | None = None


class Measure(NamedTuple):
    """A number of a result, None where it has none; `form` is how it is told."""

    of: Callable[[Result], float | None]
    form: str


def metric(*names: str, scale: float = 100.0) -> Measure:
    """The first of these metrics that there is."""

    def of(result: Result) -> float | None:
        found = (result.metrics.get(name) for name in names)
        value = next((v for v in found if v is not None), None)
        return None if value is None else scale * value

    return Measure(of, ".1f")


# Columns of the paper's tables, as a result of ours has them.
MEASURES: dict[str, Measure] = {
    "params": Measure(lambda r: r.parameters / 1e6, ".4g"),
    "gmacs": Measure(lambda r: r.cost["paper_gmacs"]["avg"], ".4g"),
    "gmacs_max": Measure(lambda r: r.cost["paper_gmacs"]["max"], ".4g"),
    "gmacs_min": Measure(lambda r: r.cost["paper_gmacs"]["min"], ".4g"),
    # Of the network itself; see `speed_cell`.
    "speed": Measure(lambda r: None, ".1f"),
    # A test of one clip of each video has its top-1 under either name.
    "clip-1": metric("acc/clip1", "acc/top1"),
    "video-1": metric("acc/video1"),
    "video-5": metric("acc/video5"),
    "mAP": metric("jhmdb/frame_mAP@0.5"),
    "recall": metric("jhmdb/recall"),
    "classif": metric("jhmdb/classif"),
    "mIoU": metric("mIoU", scale=1.0),
    # Of redundancy studies.
    "cc": Measure(lambda r: None, ".3f"),
    "rmse": Measure(lambda r: None, ".3f"),
    "rp": Measure(lambda r: None, ".3f"),
}


def cell(values: Sequence[float | None], form: str) -> Cell:
    """Mean and standard deviation of what there is."""
    known = [value for value in values if value is not None]
    if not known:
        return Cell(MISSING)
    mean = statistics.fmean(known)
    if len(known) == 1:
        return Cell(f"{mean:{form}}", mean)
    std = statistics.stdev(known)
    return Cell(f"{mean:{form}} ± {std:{form}}", mean, std)


def speed_cell(results: Sequence[Result], network: str | None = None) -> Cell:
    """Clips or images per second of one of the two networks, or of what each result is of itself.

    Speeds that were measured otherwise are told one by one: their mean would be of nothing.
    """
    told = []
    for result in results:
        own = network or ("dynamic" if result.dynamic else "static")
        if side := (result.speed or {}).get(own):
            told.append((side["median"], measured_how(result)))
    if len({how for _, how in told}) > 1:
        return Cell(" / ".join(f"{median:.1f}" for median, _ in told))
    return cell([median for median, _ in told], ".1f")


def with_quartiles(told: Cell, results: Sequence[Result], network: str) -> Cell:
    """The speed of a single result."""
    side = (results[0].speed or {}).get(network)
    if len(results) > 1 or side is None:
        return told
    return told._replace(text="{median:.1f} ({low:.1f} to {high:.1f})".format(**side))


def measured_how(result: Result) -> str:
    """Alike where speeds can be averaged; more rounds do not change what is measured."""
    held = (result.speed or {}).get("conditions", {})
    return json.dumps({k: v for k, v in held.items() if k != "repeats"}, sort_keys=True)


def conditions(results: Iterable[Result]) -> list[str]:
    """Where the speeds were measured, and what was changed in a config."""
    results = list(results)
    timed: dict[str, list[Result]] = {}
    for result in results:
        if result.speed:
            timed.setdefault(measured_how(result), []).append(result)
    held = [json.loads(how) for how in timed]
    names = {k for h in held for k in h if any(h.get(k) != other.get(k) for other in held)}
    told = []
    for how, alike in zip(held, timed.values(), strict=True):
        whose = dict.fromkeys(f"{r.name} ({r.checkpoint})" for r in alike)
        whose_text = f" ({'; '.join(whose)})" if len(held) > 1 else ""
        told.append(f"Speed of ours{whose_text}: {where(how, sorted(names))}.")
    changed = (f"{r.name} was evaluated with {options_of(r)}." for r in results if r.options)
    return [*told, *dict.fromkeys(changed)]


def where(held: dict[str, Any], differing: Sequence[str]) -> str:
    """The conditions that are always told, and those in which others differ."""
    c = {name: held.get(name, "unknown") for name in ("device", "threads", "batch", "engine")}
    text = f"{c['device']}, {c['threads']} threads, batch {c['batch']}, {c['engine']} engine"
    return ", ".join([text, *(f"{n} {held.get(n)}" for n in differing if n not in c)])
