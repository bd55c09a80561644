"""Tables of results: the paper's, ours beside its figures, and a free one.

A board is a table whose cells have a text to read and a number to compare by.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vared_mm.report.leaderboard_inputs import Inputs, Study
from vared_mm.report.paper_tables import PaperRow, PaperTable
from vared_mm.report.result import Result

MISSING = "–"
NOT_EVALUATED = "not evaluated"


class MixedDataError(ValueError):
    """Results of different data would stand in one table."""


class Cell(NamedTuple):
    """Without a number it is text; `std` is told of several results."""

    text: str
    value: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Board:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


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


def speed(result: Result) -> float | None:
    side = (result.speed or {}).get("dynamic" if result.dynamic else "static")
    return side["median"] if side else None


# Columns of the paper's tables, as a result of ours has them.
MEASURES: dict[str, Measure] = {
    "params": Measure(lambda r: r.parameters / 1e6, ".4g"),
    "gmacs": Measure(lambda r: r.cost["paper_gmacs"]["avg"], ".4g"),
    "gmacs_max": Measure(lambda r: r.cost["paper_gmacs"]["max"], ".4g"),
    "gmacs_min": Measure(lambda r: r.cost["paper_gmacs"]["min"], ".4g"),
    "speed": Measure(speed, ".1f"),
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


def speed_cell(results: Sequence[Result], network: str) -> Cell:
    """Clips or images per second; of one result with its quartiles."""
    sides = [(result.speed or {}).get(network) for result in results]
    told = cell([side["median"] if side else None for side in sides], ".1f")
    if len(results) > 1 or sides[0] is None:
        return told
    return told._replace(text="{median:.1f} ({low:.1f} to {high:.1f})".format(**sides[0]))


def paper_board(table: PaperTable, inputs: Inputs, mixed: bool = False) -> Board:
    """Every row of a table of the paper: ours, the paper's and the difference.

    Raises:
        MixedDataError: for results of different data whose configs name the same, unless `mixed`.
    """
    models, studied = names_in(table.rows)
    of_table = {path: r for path, r in inputs.results.items() if r.name in models}
    if not mixed:
        for data in dict.fromkeys(data_of(r.name) for r in of_table.values()):
            alike = {path: r for path, r in of_table.items() if data_of(r.name) == data}
            refuse_mixed(alike, f"Table {table.number}")
    rows = []
    for row in table.rows:
        of_row = [r for r in of_table.values() if r.name == row.config]
        ours, count = our_figures(table, row, of_row, inputs.studies)
        rows.append(paper_row(table, row, ours, count))
    columns = [c for name in table.columns for c in (name, f"{name} paper", f"{name} diff")]
    return Board(
        f"Table {table.number}. {table.caption}",
        ("row", "results", *columns),
        tuple(rows),
        (
            *([table.note] if table.note else []),
            "paper: the figure that the paper prints; diff: ours less the paper's.",
            *conditions(of_table.values()),
            *(study.told for study in inputs.studies if study.name in studied),
        ),
    )


def names_in(rows: Sequence[PaperRow]) -> tuple[set[str | None], set[str | None]]:
    """Those of configs whose results stand in the rows, and those whose studies do."""
    return (
        {row.config for row in rows if row.axis is None},
        {row.config for row in rows if row.axis is not None},
    )


def data_of(config: str) -> str:
    """What the name of a config ends with. Table 13 has two data sets."""
    return config.rsplit("_", 1)[-1]


def our_figures(
    table: PaperTable, row: PaperRow, results: Sequence[Result], studies: Sequence[Study]
) -> tuple[dict[str, list[float | None]], int]:
    """By column, one number for each result or study of the row; and how many these are."""
    if row.axis is None:
        return {c: [MEASURES[c].of(r) for r in results] for c in table.columns}, len(results)
    found = [study.mean[row.axis] for study in studies if study.name == row.config]
    return {c: [mean[c] for mean in found] for c in table.columns}, len(found)


def paper_row(
    table: PaperTable, row: PaperRow, ours: Mapping[str, Sequence[float | None]], count: int
) -> tuple[Cell, ...]:
    missing = NOT_EVALUATED if row.config else "no config"
    cells = [Cell(row.name), Cell(str(count), count) if count else Cell(missing, 0)]
    for column, figure in zip(table.columns, row.figures, strict=True):
        form = MEASURES[column].form
        mine = cell(ours[column], form)
        both = mine.value is not None and figure is not None
        difference = mine.value - figure if both else None  # type: ignore[operator]
        paper = Cell(MISSING) if figure is None else Cell(f"{figure:g}", figure)
        diff = Cell(MISSING) if difference is None else Cell(f"{difference:+{form}}", difference)
        cells += [mine, paper, diff]
    return tuple(cells)


def conditions(results: Iterable[Result]) -> list[str]:
    """Where the speeds were measured, and what was changed in a config."""
    told: dict[str, None] = {}
    for result in results:
        if result.speed:
            c = result.speed["conditions"]
            where = (
                f"{c['device']}, {c['threads']} threads, batch {c['batch']}, {c['engine']} engine"
            )
            told[f"Speed of ours: {where}."] = None
        if result.options:
            told[f"{result.name} was evaluated with {options_of(result)}."] = None
    return list(told)


def options_of(result: Result) -> str:
    return " ".join(f"{name}={value}" for name, value in result.options.items())


def unmatched(tables: Sequence[PaperTable], inputs: Inputs) -> list[str]:
    """The files that stand in no row of these tables."""
    models, studied = names_in([row for table in tables for row in table.rows])
    left = [f"{path} ({r.name})" for path, r in inputs.results.items() if r.name not in models]
    return left + [f"{s.path} ({s.name})" for s in inputs.studies if s.name not in studied]


def free_board(inputs: Inputs, mixed: bool = False) -> Board:
    """A row for each model, its seeds together: what has config, options and checkpoint name alike.

    Metrics stand as their toolbox names and scales them.

    Raises:
        MixedDataError: for results of different data, unless `mixed`.
    """
    if not inputs.results:
        raise ValueError("there are no results of models; redundancy studies stand in --table 12")
    if not mixed:
        refuse_mixed(inputs.results, "one table")
    models: dict[tuple[str, str, str], list[Result]] = {}
    for result in inputs.results.values():
        of_model = (result.name, options_of(result), Path(result.checkpoint).stem)
        models.setdefault(of_model, []).append(result)
    metrics = dict.fromkeys(
        name
        for result in inputs.results.values()
        for name in result.metrics
        if not name.startswith("cost/")
    )
    measures = {name: metric(name, scale=1.0)._replace(form=".4g") for name in metrics} | COSTS
    texts = ["name", "checkpoint", "data"]
    if any(options for _, options, _ in models):
        texts.insert(1, "options")
    rows = []
    for (name, options, checkpoint), results in models.items():
        data = f"{results[0].data.name}, {results[0].data.samples}"
        told = dict(name=name, options=options, checkpoint=checkpoint, data=data)
        cells = [Cell(told[column]) for column in texts]
        cells.append(Cell(str(len(results)), len(results)))
        cells += [cell([m.of(r) for r in results], m.form) for m in measures.values()]
        cells += [speed_cell(results, network) for network in SPEEDS.values()]
        rows.append(tuple(cells))
    notes = conditions(inputs.results.values())
    columns = (*texts, "results", *measures, *SPEEDS)
    return Board("Results", columns, tuple(rows), tuple(notes))


# Columns of the free table beside the metrics.
COSTS: dict[str, Measure] = {
    "dense_gmacs": Measure(lambda r: r.cost["dense_gmacs"], ".4g"),
    "paper_gmacs": Measure(lambda r: r.cost["paper_gmacs"]["avg"], ".4g"),
    "full_gmacs": Measure(lambda r: r.cost["full_gmacs"]["avg"], ".4g"),
    "full_gmacs_min": Measure(lambda r: r.cost["full_gmacs"]["min"], ".4g"),
    "full_gmacs_max": Measure(lambda r: r.cost["full_gmacs"]["max"], ".4g"),
    "share": Measure(lambda r: r.cost["share"]["avg"], ".3f"),
    "params": Measure(lambda r: r.parameters / 1e6, ".4g"),
}
SPEEDS = {"static/s": "static", "dynamic/s": "dynamic"}


def refuse_mixed(results: Mapping[Path, Result], where: str) -> None:
    groups: dict[str, list[str]] = {}
    for path, result in results.items():
        told = f"{result.data.name} {result.data.file}, {result.data.samples} samples"
        groups.setdefault(f"{told} [{result.data.fingerprint[:8]}]", []).append(str(path))
    if len(groups) > 1:
        listed = "\n".join(f"  {data}: {', '.join(files)}" for data, files in groups.items())
        raise MixedDataError(
            f"results of {len(groups)} different data sets would stand in {where}, where numbers "
            f"are compared:\n{listed}\nGive those of one alone, or --mixed-data"
        )
