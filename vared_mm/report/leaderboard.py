"""Tables of results: the paper's, ours beside its figures, and a free one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vared_mm.report.leaderboard_cells import (
    MEASURES,
    MISSING,
    Cell,
    Measure,
    cell,
    conditions,
    metric,
    speed_cell,
    with_quartiles,
)
from vared_mm.report.leaderboard_inputs import Inputs, Study
from vared_mm.report.paper_tables import PaperRow, PaperTable
from vared_mm.report.result import Result
from vared_mm.report.same_model import apart, by_model, once_each, parts_of

NOT_EVALUATED = "not evaluated"


class MixedDataError(ValueError):
    """Results of different data would stand in one table."""


@dataclass(frozen=True)
class Board:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def paper_board(table: PaperTable, inputs: Inputs, mixed: bool = False) -> Board:
    """Every row of a table of the paper: ours, the paper's and the difference.

    Where several models are of one row, as epochs of one run or options, each has a row.

    Raises:
        MixedDataError: for results of different data whose configs name the same, unless `mixed`.
    """
    models, studied = names_in(table.rows)
    all_of_table = {path: r for path, r in inputs.results.items() if r.name in models}
    if not mixed:
        for data in dict.fromkeys(data_of(r.name) for r in all_of_table.values()):
            alike = {path: r for path, r in all_of_table.items() if data_of(r.name) == data}
            refuse_mixed(alike, f"Table {table.number}")
    of_table, notes = once_each(all_of_table)
    studies = [study for study in inputs.studies if study.name in studied]
    rows = [
        paper_row(table, row._replace(name=name), ours, count)
        for row in table.rows
        for name, ours, count in our_cells(table, row, list(of_table.values()), studies)
    ]
    columns = [c for name in table.columns for c in (name, f"{name} paper", f"{name} diff")]
    return Board(
        f"Table {table.number}. {table.caption}",
        ("row", "results", *columns),
        tuple(rows),
        (
            *([table.note] if table.note else []),
            "paper: the figure that the paper prints; diff: ours less the paper's.",
            *conditions(of_table.values()),
            *dict.fromkeys(study.told for study in studies),
            *notes,
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


def our_cells(
    table: PaperTable, row: PaperRow, results: Sequence[Result], studies: Sequence[Study]
) -> Iterator[tuple[str, dict[str, Cell], int]]:
    """Of each model of a row its name, its cells by column, and how many results these are of."""
    axis = row.axis
    if axis is None:
        models = by_model([r for r in results if r.name == row.config], parts_of)
        names = apart([parts_of(results[0]) for results in models])
        for name, of_model in zip(names, models, strict=True):
            cells = {c: cell([MEASURES[c].of(r) for r in of_model], MEASURES[c].form)
                     for c in table.columns}  # fmt: skip
            if "speed" in cells:
                cells["speed"] = speed_cell(of_model)
            yield named(row, name), cells, len(of_model)
    else:
        groups = by_model([s for s in studies if s.name == row.config], lambda s: s.parts)
        names = apart([group[0].parts for group in groups])
        for name, group in zip(names, groups, strict=True):
            means = [study.mean[axis] for study in group]
            cells = {c: cell([mean[c] for mean in means], MEASURES[c].form) for c in table.columns}
            yield named(row, name), cells, len(group)
    if not names:
        yield row.name, {column: Cell(MISSING) for column in table.columns}, 0


def named(row: PaperRow, apart: str) -> str:
    return f"{row.name} ({apart})" if apart else row.name


def paper_row(
    table: PaperTable, row: PaperRow, ours: Mapping[str, Cell], count: int
) -> tuple[Cell, ...]:
    missing = NOT_EVALUATED if row.config else "no config"
    cells = [Cell(row.name), Cell(str(count), count) if count else Cell(missing, 0)]
    for column, figure in zip(table.columns, row.figures, strict=True):
        form, mine = MEASURES[column].form, ours[column]
        both = mine.value is not None and figure is not None
        difference = mine.value - figure if both else None  # type: ignore[operator]
        paper = Cell(MISSING) if figure is None else Cell(f"{figure:g}", figure)
        diff = Cell(MISSING) if difference is None else Cell(f"{difference:+{form}}", difference)
        cells += [mine, paper, diff]
    return tuple(cells)


def unmatched(tables: Sequence[PaperTable], inputs: Inputs) -> list[str]:
    """The files that stand in no row of these tables."""
    models, studied = names_in([row for table in tables for row in table.rows])
    left = [f"{path} ({r.name})" for path, r in inputs.results.items() if r.name not in models]
    return left + [f"{s.path} ({s.name})" for s in inputs.studies if s.name not in studied]


def free_board(inputs: Inputs, mixed: bool = False) -> Board:
    """A row for each model, its seeds together: see `same_model`.

    Metrics stand as their toolbox names and scales them.

    Raises:
        MixedDataError: for results of different data, unless `mixed`.
    """
    if not inputs.results:
        raise ValueError("there are no results of models; redundancy studies stand in --table 12")
    if not mixed:
        refuse_mixed(inputs.results, "one table")
    results, notes = once_each(inputs.results)
    metrics = dict.fromkeys(
        name for r in results.values() for name in r.metrics if not name.startswith("cost/")
    )
    measures = {name: metric(name, scale=1.0)._replace(form=".4g") for name in metrics} | COSTS
    models = by_model(results.values(), parts_of)
    told = texts_of([of_model[0] for of_model in models])
    rows = []
    for texts, of_model in zip(told, models, strict=True):
        cells = [Cell(text) for text in texts.values()]
        cells.append(Cell(str(len(of_model)), len(of_model)))
        cells += [cell([m.of(r) for r in of_model], m.form) for m in measures.values()]
        cells += [with_quartiles(speed_cell(of_model, n), of_model, n) for n in SPEEDS.values()]
        rows.append(tuple(cells))
    columns = (*told[0], "results", *measures, *SPEEDS)
    return Board("Results", columns, tuple(rows), (*conditions(results.values()), *notes))


def texts_of(models: Sequence[Result]) -> list[dict[str, str]]:
    """By column what each model is: what is needed to tell them apart, and a little more."""
    parts = [parts_of(result) for result in models]
    several_data = len({part["data"] for part in parts}) > 1
    twins = [[p for p, r in zip(parts, models, strict=True) if r.name == own.name]
             for own in models]  # fmt: skip
    config = any(len({(p["config"], p["settings"]) for p in same}) > 1 for same in twins)
    rows = []
    for result, part in zip(models, parts, strict=True):
        texts = {"name": result.name}
        if config:
            texts["config"] = " ".join(filter(None, (part["config"], part["settings"][:8])))
        if any(p["options"] for p in parts):
            texts["options"] = part["options"]
        data = f"{result.data.name}, {result.data.samples}"
        texts |= {"checkpoint": part["checkpoint"], "data": part["data"] if several_data else data}
        rows.append(texts)
    return rows


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
