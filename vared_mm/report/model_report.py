"""The sections of the HTML report of one evaluated model, and of a comparison of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vared_mm.report.html_page import Cell, Picture, Section, Table
from vared_mm.report.leaderboard_cells import conditions
from vared_mm.report.result import Result, Samples
from vared_mm.report.sample_groups import groups_of

# Samples in the table: half of them those with the most, half those with the least computation.
ROWS = 500
SPREAD = ("avg", "min", "max")


def model_sections(
    result: Result, samples: Samples, pictures: Sequence[Picture], left_out: Sequence[str] = ()
) -> list[Section]:
    """All of one model. `left_out` are the reasons for pictures that are not here."""
    policy = "\n\n".join(left_out) or "What the gates chose, in pictures."
    return [
        Section("Metrics", items=[metrics(result)]),
        cost(result),
        speed(result),
        Section("Policy", policy, pictures),
        *classification(result, samples),
        layers(result),
        Section("Model", items=[about(result)]),
    ]


def about(result: Result) -> Table:
    data = result.data
    options = ", ".join(f"{key}={value}" for key, value in result.options.items())
    rows: dict[str, Cell] = {
        "config": result.config,
        "options": options or "none",
        "checkpoint": result.checkpoint,
        "commit of vared_mm": result.commit or "unknown",
        "evaluated": result.created,
        "task": result.task,
        "data": f"{data.name}, {data.file}",
        "samples": data.samples,
        "parameters": result.parameters,
        "device": result.device,
        "threads": result.threads,
        "packages": ", ".join(f"{name} {version}" for name, version in result.packages.items()),
    }
    return Table("What it is", ("what", "value"), list(rows.items()))


def metrics(result: Result) -> Table:
    # What the cost metric adds is told by the section on cost.
    own = {k: v for k, v in result.metrics.items() if not k.startswith("cost/")}
    return Table("Metrics of the data set", ("metric", "value"), list(own.items()))


def cost(result: Result) -> Section:
    kinds = {
        "computed GMACs, convolutions by r/R (paper)": "paper_gmacs",
        "computed GMACs, all that ran (full)": "full_gmacs",
        "GMACs per megapixel (full)": "full_gmacs_per_megapixel",
    }
    rows: list[list[Cell]] = [["dense GMACs", result.cost["dense_gmacs"], None, None]]
    rows += [row(text, result.cost[k]) for text, k in kinds.items() if k in result.cost]
    rows.append(percent_row("share of the dynamic convolutions (%)", result.cost["share"]))
    text = "GMACs of one clip or image; average, least and most over the evaluated samples."
    return Section(
        "Cost", text, [Table("Cost of a sample", ("cost", "average", "least", "most"), rows)]
    )


def speed(result: Result) -> Section:
    if result.speed is None:
        return Section("Speed", "Not measured.")
    rows = [
        [kind, *(result.speed[kind][name] for name in ("median", "low", "high"))]
        for kind in ("static", "dynamic")
        if result.speed.get(kind)
    ]
    conditions = result.speed.get("conditions", {})
    text = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in conditions.items())
    columns = ("network", "median", "lower quartile", "upper quartile")
    return Section("Speed", text, [Table("Clips or images per second", columns, rows)])


def layers(result: Result) -> Section:
    if not result.dynamic:
        return Section("Layers", "The network is static: no convolution of it is dynamic.")
    rows = [
        [
            *percent_row(layer["name"], layer["share"]),
            1000 * layer["dense_gmacs"],
            1000 * layer["full_gmacs"]["avg"],
        ]
        for layer in result.cost["layers"]
    ]
    columns = ("layer", "share %", "least %", "most %", "dense MMACs", "computed MMACs")
    note = "The share is that of the layer's MACs that its largest open path computes."
    return Section("Layers", items=[Table("Dynamic convolutions", columns, rows, note)])


def row(name: str, spread: Mapping[str, float]) -> list[Cell]:
    return [name, *(spread[end] for end in SPREAD)]


def percent_row(name: str, spread: Mapping[str, float]) -> list[Cell]:
    return [name, *(100 * spread[end] for end in SPREAD)]


def classification(result: Result, samples: Samples) -> list[Section]:
    """Tables of the classes and of the samples, of recognizers alone."""
    if result.task != "recognition":
        return []
    return [
        Section("Classes", items=[classes(result, samples)]),
        Section("Samples", items=[sample_table(result, samples)]),
    ]


def classes(result: Result, samples: Samples) -> Table:
    rows: list[list[Cell]] = []
    for group in groups_of(samples.label, result.data.classes):
        if not len(group.places):
            rows.append([group.name, 0, None, None, None, None])
            continue
        share, correct = samples.share[group.places], samples.correct[group.places]
        ends = (share.mean(), share.min(), share.max())
        rows.append([group.name, len(group.places), *(100 * v for v in (correct.mean(), *ends))])
    columns = ("class", "samples", "right %", "mean share %", "least %", "most %")
    return Table("Classes", columns, rows)


def sample_table(result: Result, samples: Samples) -> Table:
    order = np.argsort(-samples.share, kind="stable")
    shown = order if len(order) <= ROWS else np.r_[order[: ROWS // 2], order[-ROWS // 2 :]]
    note = f"All {len(order)} samples."
    if len(shown) < len(order):
        note = (
            f"{len(shown)} of {len(order)} samples: the {ROWS // 2} with the most and the "
            f"{ROWS // 2} with the least computation."
        )
    rows: list[list[Cell]] = [
        [
            str(samples.file[i]),
            class_name(result, samples.label[i]),
            class_name(result, samples.predicted[i]),
            verdict(samples.correct[i]),
            100 * float(samples.share[i]),
            float(samples.full_gmacs[i]),
        ]
        for i in shown
    ]
    columns = ("file", "label", "predicted", "right", "share %", "GMACs")
    return Table("Samples", columns, rows, note)


def class_name(result: Result, label: int) -> str:
    if label < 0:
        return ""
    # A network may know more classes than the data have.
    names = result.data.classes or ()
    return names[label] if label < len(names) else f"class {label}"


def verdict(correct: float) -> str:
    return "" if math.isnan(correct) else "yes" if correct == 1 else "no"


def comparison_sections(results: Sequence[Result], pictures: Sequence[Picture]) -> list[Section]:
    """Several models on the same data, side by side."""
    names = dict.fromkeys(
        name for r in results for name in r.metrics if not name.startswith("cost/")
    )
    columns = [
        "model", "kind", *names, "dense GMACs", "paper avg", "full avg", "full min", "full max",
        "share %", "parameters", "clips/s static", "clips/s dynamic", "checkpoint",
    ]  # fmt: skip
    data = results[0].data
    text = (
        f"{results[0].task} on {data.samples} samples of {data.name}, {data.file}. GMACs of one "
        "clip or image: convolutions by r/R as the paper counts, and all that ran."
    )
    note = " ".join(conditions(results))
    table = Table("Models", columns, [compared(result, names) for result in results], note)
    return [Section("Comparison", text, [table, *pictures])]


def compared(result: Result, metrics: Mapping[str, Any]) -> list[Cell]:
    paper, full, share = (result.cost[name] for name in ("paper_gmacs", "full_gmacs", "share"))
    rates = [((result.speed or {}).get(kind) or {}).get("median") for kind in ("static", "dynamic")]
    return [
        result.name,
        "dynamic" if result.dynamic else "static",
        *(result.metrics.get(name) for name in metrics),
        result.cost["dense_gmacs"], paper["avg"], full["avg"], full["min"], full["max"],
        100 * share["avg"], result.parameters, *rates, result.checkpoint,
    ]  # fmt: skip
