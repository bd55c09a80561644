"""How speeds were measured: only what was measured alike can be averaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from vared_mm.report.result import Result


def options_of(result: Result) -> str:
    return " ".join(f"{name}={value}" for name, value in result.options.items())


def measured_how(result: Result) -> str:
    """Alike where speeds can be averaged; more rounds do not change what is measured."""
    held = (result.speed or {}).get("conditions", {})
    return json.dumps({k: v for k, v in held.items() if k != "repeats"}, sort_keys=True)


def speed_notes(results: Iterable[Result]) -> list[str]:
    """Where the speeds were measured, what was changed in a config, what is by formula."""
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
    return [*told, *dict.fromkeys(changed), *zero_notes(results), *gated_notes(results)]


def zero_notes(results: Iterable[Result]) -> list[str]:
    """Which costs are by formula alone, as no time is saved by a weight that is zero."""
    pruned = (r.name for r in results if r.cost and r.cost.get("zero_gmacs"))
    return [
        f"{name} is pruned: its GMACs by formula leave out weights that are zero, which it "
        "computes all the same: its speed is the dense network's."
        for name in dict.fromkeys(pruned)
    ]


def gated_notes(results: Iterable[Result]) -> list[str]:
    """Which costs are by formula alone, as all that the gates decide about is computed."""
    costs = ((r.name, r.cost) for r in results if r.cost and r.dynamic)
    return [
        f"{name} is gated: its GMACs by formula leave out what its gates close, which it computes "
        "all the same, in the time of the dense network at least."
        for name in dict.fromkeys(
            name
            for name, cost in costs
            if cost["share"]["avg"] < 1
            and math.isclose(cost["full_gmacs"]["avg"], cost["dense_gmacs"], rel_tol=1e-9)
        )
    ]


def where(held: dict[str, Any], differing: Sequence[str]) -> str:
    """The conditions that are always told, and those in which others differ."""
    c = {name: held.get(name, "unknown") for name in ("device", "threads", "batch", "engine")}
    text = f"{c['device']}, {c['threads']} threads, batch {c['batch']}, {c['engine']} engine"
    return ", ".join([text, *(f"{n} {held.get(n)}" for n in differing if n not in c)])
