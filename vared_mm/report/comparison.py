"""Accuracy against cost of several models that were evaluated on the same data."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from vared_mm.report.plot_style import COLOURS
from vared_mm.report.result import Result
from vared_mm.report.speed_conditions import options_of

# What a task is judged by: the first of these that was measured.
ACCURACIES = {
    "recognition": ("acc/video1", "acc/clip1", "acc/top1"),
    "localization": ("jhmdb/frame_mAP@0.5", "mAP/overall"),
    "segmentation": ("mIoU",),
    "detection": ("coco/bbox_mAP",),
}


class IncomparableError(ValueError):
    """Results of different data, tasks or metrics."""


def check_comparable(results: Sequence[Result]) -> None:
    """Refuses results that were not evaluated on the same samples of the same data."""
    first, *others = results
    for other in others:
        if asked_of(first) != asked_of(other):
            raise IncomparableError(
                f"{described(first)} and {described(other)} are results of different data or tasks "
                "and cannot be compared; give those of one data set"
            )


def asked_of(result: Result) -> tuple[str | None, str, str]:
    return result.task, result.data.name, result.data.fingerprint


def described(result: Result) -> str:
    data = result.data
    return (
        f"{result.name} ({result.checkpoint}: {result.task} on {data.samples} samples of "
        f"{data.name} {data.file}, fingerprint {data.fingerprint[:12]})"
    )


def common_accuracy(results: Sequence[Result]) -> str:
    """The metric that all results have and that says most of their task.

    Raises:
        IncomparableError: None of them is in all results.
    """
    wanted = ACCURACIES.get(results[0].task or "", ())
    for name in wanted:
        if all(result.metrics.get(name) is not None for result in results):
            return name
    raise IncomparableError(
        f"wanted one of {wanted} in all results; came "
        + "; ".join(f"{result.name}: {sorted(result.metrics)}" for result in results)
    )


@dataclass(frozen=True)
class Point:
    """A model in the plane of cost and accuracy; GMACs are avg, min and max over its samples."""

    config: str
    dynamic: bool
    accuracy: float
    gmacs: float
    least: float
    most: float
    model: Hashable = None


def points_of(results: Sequence[Result], metric: str) -> list[Point]:
    """Models whose configs are named alike are told by the configs' paths too."""
    models = [(result.settings or result.config, options_of(result)) for result in results]
    names = [name for name, _ in {(r.name, m) for r, m in zip(results, models, strict=True)}]
    return [
        point(r, metric, names.count(r.name) > 1, m) for r, m in zip(results, models, strict=True)
    ]


def point(result: Result, metric: str, has_twins: bool, model: Hashable) -> Point:
    if result.cost is None:
        raise IncomparableError(f"{result.name} ({result.checkpoint}) was tested without its cost")
    gmacs = result.cost["full_gmacs"]
    told = " ".join(filter(None, (result.config, options_of(result))))
    return Point(
        told if has_twins else result.name, result.dynamic, float(result.metrics[metric] or 0),
        gmacs["avg"], gmacs["min"], gmacs["max"], model,
    )  # fmt: skip


# Filled for dynamic models, hollow for static ones; another one when the colours start again.
MARKERS = "osD^v"
# Of the accuracy's axis: hardly any difference shall not look like a great one.
LEAST_RANGE = 0.05


def scatter(points: Sequence[Point], metric: str) -> Figure:
    """Accuracy against GMACs; every config has a colour, its seeds too; bars from min to max."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    panel = figure.subplots()
    kinds = dict.fromkeys((p.config, p.model, p.dynamic) for p in points)
    looks = {
        kind: (f"C{i % COLOURS}", MARKERS[i // COLOURS % len(MARKERS)])
        for i, kind in enumerate(kinds)
    }
    for point in points:
        colour, marker = looks[point.config, point.model, point.dynamic]
        panel.errorbar(
            point.gmacs, point.accuracy,
            # The mean of equal numbers may lie a rounding beside them.
            xerr=[[max(0, point.gmacs - point.least)], [max(0, point.most - point.gmacs)]],
            color=colour, marker=marker, ms=7, mfc=colour if point.dynamic else "none",
            capsize=3 * (point.most > point.least), elinewidth=1,
        )  # fmt: skip
    entries = [legend_entry(name, dyn, *looks[name, of, dyn]) for name, of, dyn in kinds]
    panel.set(xlabel="GMACs of a sample, gates and cheap operations included", ylabel=metric)
    whole = 1 if max(abs(point.accuracy) for point in points) <= 1 else 100
    if whole == 1:
        panel.yaxis.set_major_formatter(PercentFormatter(1))
    low, high = panel.get_ylim()
    if (room := LEAST_RANGE * whole - (high - low)) > 0:
        panel.set_ylim(low - room / 2, high + room / 2)
    panel.grid()
    figure.legend(handles=entries, loc="outside lower left", frameon=False)
    return figure


def legend_entry(config: str, dynamic: bool, colour: str, marker: str) -> Line2D:
    label = f"{config} ({'dynamic' if dynamic else 'static'})"
    fill = colour if dynamic else "none"
    return Line2D([], [], color=colour, marker=marker, mfc=fill, ls="", label=label)
