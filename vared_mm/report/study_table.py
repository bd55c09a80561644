"""The table of a study: forms of networks, each trained from several seeds (`tools/study.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vared_mm.files import write_json, write_text
from vared_mm.report.result import Result, read_result
from vared_mm.report.same_model import spelled, with_part

OF_ZEROS = (
    "the GMACs by formula leave out weights that are zero; they are computed all the same, in the "
    "time of the dense network."
)


def gathered(out: Path, networks: list[str], forms: list[str]) -> str:
    """Writes results.json and results.md of a study's finished runs; returns the table.

    Other folders, which the study did not make, are no runs.

    Raises:
        ValueError: Not all of them were tested on the same clips.
    """
    name = re.compile(rf"({'|'.join(networks)})-({'|'.join(forms)})-[0-9]+")
    files = [p for p in sorted(out.glob("*/result.json")) if name.fullmatch(p.parent.name)]
    results = {path.parent.name: read_result(path) for path in files}
    refuse_other_clips(results, out)
    rows = with_speeds([row_of(name, result) for name, result in results.items()], out)
    write_json(out / "results.json", rows)
    table = table_of(rows, networks, forms)
    write_text(out / "results.md", table)
    return table


def refuse_other_clips(results: Mapping[str, Result], out: Path) -> None:
    of: dict[str, list[str]] = {}
    for name, result in results.items():
        of.setdefault(result.data.fingerprint, []).append(name)
    if len(of) > 1:
        listed = "; ".join(f"{', '.join(names)} on [{clips[:8]}]" for clips, names in of.items())
        raise ValueError(
            f"the runs in {out} were tested on {len(of)} different sets of clips, and would stand "
            f"in one table: {listed}; remove those of former clips, which are then run again, or "
            "give another --out"
        )


def row_of(name: str, result: Result) -> dict[str, Any]:
    """Of a run, <network>-<form>-<seed>."""
    network, rest = name.split("-", 1)
    form, seed = rest.rsplit("-", 1)
    return {
        "network": network,
        "form": form,
        "seed": int(seed),
        "top1": result.metrics["acc/top1"],
        "clips": result.data.samples,
        **{key: result.cost[key] for key in ("dense_gmacs", "paper_gmacs", "full_gmacs", "share")},
        "zero_gmacs": result.cost.get("zero_gmacs", 0.0),
    }


def with_speeds(rows: Sequence[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """With what the forms of a seed did per second, and over its static one, where it was timed."""
    told: dict[str, Any] = {}
    for file in out.glob("*-speed-*.json"):
        report = json.loads(file.read_text(encoding="utf-8"))
        speeds = {Path(name).name: speed for name, speed in report["speeds"].items()}
        static = next((s for name, s in speeds.items() if "-static-" in name), None)
        for name, speed in speeds.items():
            told[name] = {"per_second": speed["median"]}
            if static:
                told[name]["times_static"] = speed["median"] / static["median"]
    return [row | told.get("{network}-{form}-{seed}".format(**row), {}) for row in rows]


def table_of(rows: Sequence[dict[str, Any]], networks: list[str], forms: list[str]) -> str:
    """In Markdown, a line for each network and form in their order, its seeds together."""
    table = pd.json_normalize(list(rows))
    for name in ("top1", "times_static"):
        # A column of no number alone would be none of numbers.
        table[name] = table.get(name, pd.Series(index=table.index)).astype(float)
    for name, order in (("network", networks), ("form", forms)):
        table[name] = pd.Categorical(table[name], order)
    static = table[table["form"] == "static"].groupby("network", observed=True)
    whole = table["network"].map(static["dense_gmacs"].first()).astype(float)
    table["whole_gmacs"] = whole.fillna(table["dense_gmacs"])
    groups = table.groupby(["network", "form"], observed=True)
    lines = [{"network": n, "form": form, **line_of(own)} for (n, form), own in groups]
    told = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n"
    pruned = table.loc[table["zero_gmacs"] > 0, "form"].astype(str).unique()
    return told + "".join(f"\n{form}: {OF_ZEROS}\n" for form in pruned)


def line_of(seeds: pd.DataFrame) -> dict[str, str]:
    full, dense = seeds["full_gmacs.avg"], seeds["dense_gmacs"]
    low, high = f"{dense.min():.3f}", f"{dense.max():.3f}"
    least, most = seeds["full_gmacs.min"].min(), seeds["full_gmacs.max"].max()
    return {
        "seeds": str(len(seeds)),
        "top-1, %": over_seeds(100 * seeds["top1"], ".1f"),
        "GMACs dense": low if low == high else f"{low} to {high}",
        "GMACs in full, avg": over_seeds(full, ".3f"),
        "least to most": f"{least:.3f} to {most:.3f}",
        "MACs saved, %": over_seeds(100 * (1 - full / seeds["whole_gmacs"]), ".1f"),
        "share of the dynamic convolutions": over_seeds(seeds["share.avg"], ".2f"),
        "GMACs by formula, avg": over_seeds(seeds["paper_gmacs.avg"], ".3f"),
        "per second, times static": over_seeds(seeds["times_static"], ".2f"),
    }


def over_seeds(values: pd.Series, form: str) -> str:
    return with_part(spelled(values.mean(), values.std(), form), values.count(), len(values))
