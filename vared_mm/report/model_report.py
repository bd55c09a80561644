"""The sections of the HTML report of one evaluated model, and of a comparison of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pandas import DataFrame, Series, concat

from vared_mm.report.choices import lines
from vared_mm.report.html_page import Section
from vared_mm.report.plot_style import Picture
from vared_mm.report.policy_table import policy_table
from vared_mm.report.result import Result, Samples
from vared_mm.report.sample_groups import groups_of
from vared_mm.report.speed_conditions import speed_notes

# Samples in the table: half of them those with the most, half those with the least computation.
ROWS = 500
ENDS = ["average", "least", "most"]


def model_sections(
    result: Result,
    samples: Samples | None,
    pictures: Sequence[Picture],
    left_out: Sequence[str] = (),
) -> list[Section]:
    """All of one model. `left_out` are the reasons for pictures that are not here."""
    policy = "\n\n".join(left_out) or "What the gates chose, in pictures."
    answers = []
    if result.task == "recognition" and samples is not None:
        answers = [classes(result, samples), sample_list(result, samples)]
    return [
        Section(
            "Metrics", table=DataFrame(own_metrics(result).items(), columns=["metric", "value"])
        ),
        cost(result),
        speed(result),
        Section("Policy", policy, pictures=pictures),
        *choices(result, samples),
        *answers,
        layers(result),
        Section("Model", table=about(result)),
    ]


def own_metrics(result: Result) -> dict[str, float | None]:
    """Without what the cost metric adds, which the section on cost tells."""
    return {k: v for k, v in result.metrics.items() if not k.startswith("cost/")}


def about(result: Result) -> DataFrame:
    data = result.data
    rows = {
        "config": result.config,
        "options": ", ".join(f"{key}={value}" for key, value in result.options.items()) or "none",
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
    return DataFrame(rows.items(), columns=["what", "value"])


def cost(result: Result) -> Section:
    kinds = {
        "computed GMACs, convolutions by r/R (paper)": "paper_gmacs",
        "computed GMACs, all that ran (full)": "full_gmacs",
        "GMACs per megapixel (full)": "full_gmacs_per_megapixel",
    }
    rows = [
        ("dense GMACs", result.cost["dense_gmacs"]),
        *((text, *ends(result.cost[kind])) for text, kind in kinds.items() if kind in result.cost),
        ("share of the dynamic convolutions (%)", *ends(result.cost["share"], 100)),
    ]
    text = "GMACs of one clip or image; average, least and most over the evaluated samples."
    return Section("Cost", text, DataFrame(rows, columns=["cost", *ENDS]))


def ends(spread: Mapping[str, float], scale: float = 1) -> list[float]:
    return [scale * spread[end] for end in ("avg", "min", "max")]


def speed(result: Result) -> Section:
    if result.speed is None:
        return Section("Speed", "Not measured.")
    rows = [
        (kind, *(result.speed[kind][name] for name in ("median", "low", "high")))
        for kind in ("static", "dynamic")
        if result.speed.get(kind)
    ]
    held = result.speed.get("conditions", {})
    text = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in held.items())
    columns = ["network", "median", "lower quartile", "upper quartile"]
    return Section("Speed", text, DataFrame(rows, columns=columns), "Clips or images per second.")


def choices(result: Result, samples: Samples | None) -> list[Section]:
    """Nothing of a static model, and of results that were written without."""
    if result.choices is None:
        return []
    text = result.choices["verdict"] or "vared-mm evaluate --choices tells what they are worth."
    table = DataFrame(lines(result.choices).items(), columns=["what", "value"])
    sections = [Section("Choices", text, table)]
    policies = None if samples is None else policy_table(samples, result.data.classes)
    if policies is not None:
        note = f"{len(policies)} of {result.choices['policies']}, the most frequent ones."
        sections.append(Section("Policies", "", policies, note))
    return sections


def layers(result: Result) -> Section:
    if not result.dynamic:
        return Section("Layers", "The network is static: no convolution of it is dynamic.")
    rows = [
        (
            layer["name"],
            *ends(layer["share"], 100),
            1000 * layer["dense_gmacs"],
            1000 * layer["full_gmacs"]["avg"],
        )
        for layer in result.cost["layers"]
    ]
    columns = ["layer", "share %", "least %", "most %", "dense MMACs", "computed MMACs"]
    note = "The share is that of the layer's MACs that its largest open path computes."
    return Section("Layers", "The dynamic convolutions.", DataFrame(rows, columns=columns), note)


def classes(result: Result, samples: Samples) -> Section:
    percent = 100 * DataFrame({"right": samples.correct, "share": samples.share})
    rows = []
    for group in groups_of(samples.label, result.data.classes):
        own = percent.iloc[group.places]
        spread = own.share.agg(["mean", "min", "max"])
        rows.append((group.name, len(own), own.right.mean(), *spread))
    columns = ["class", "samples", "right %", "mean share %", "least %", "most %"]
    return Section("Classes", table=DataFrame(rows, columns=columns))


def sample_list(result: Result, samples: Samples) -> Section:
    table = DataFrame(
        {
            "file": samples.file,
            "label": label_names(result, samples.label),
            "predicted": label_names(result, samples.predicted),
            "right": Series(samples.correct).map({1: "yes", 0: "no"}),
            "share %": 100 * samples.share,
            "GMACs": samples.full_gmacs,
        }
    ).sort_values("share %", ascending=False, kind="stable")
    if len(table) <= ROWS:
        return Section("Samples", table=table, note=f"All {len(table)} samples.")
    half = ROWS // 2
    note = (
        f"{ROWS} of {len(table)} samples: the {half} with the most and the {half} with the least "
        "computation."
    )
    return Section("Samples", table=concat([table[:half], table[-half:]]), note=note)


def label_names(result: Result, labels: Iterable[int]) -> list[str | None]:
    # A network may know more classes than the data have.
    names = dict(enumerate(result.data.classes or ()))
    return [None if label < 0 else names.get(label, f"class {label}") for label in labels]


def comparison_section(results: Sequence[Result], pictures: Sequence[Picture]) -> Section:
    """Several models on the same data, side by side."""
    metrics = list(dict.fromkeys(name for result in results for name in own_metrics(result)))
    data = results[0].data
    text = (
        f"{results[0].task} on {data.samples} samples of {data.name}, {data.file}. GMACs of one "
        "clip or image: convolutions by r/R as the paper counts, and all that ran."
    )
    table = DataFrame([compared(result, metrics) for result in results])
    return Section("Comparison", text, table, " ".join(speed_notes(results)), pictures)


def compared(result: Result, metrics: Sequence[str]) -> dict[str, Any]:
    full = result.cost["full_gmacs"]
    rate = {kind: side for kind, side in (result.speed or {}).items() if side}
    return {
        "model": result.name,
        "kind": "dynamic" if result.dynamic else "static",
        **{name: result.metrics.get(name) for name in metrics},
        "dense GMACs": result.cost["dense_gmacs"],
        "paper avg": result.cost["paper_gmacs"]["avg"],
        **{f"full {end}": full[end] for end in ("avg", "min", "max")},
        "share %": 100 * result.cost["share"]["avg"],
        "parameters": result.parameters,
        **{f"clips/s {kind}": rate.get(kind, {}).get("median") for kind in ("static", "dynamic")},
        "checkpoint": result.checkpoint,
    }
