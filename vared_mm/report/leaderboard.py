"""Tables of results: the paper's, ours beside its figures, and a free one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from vared_mm.report.leaderboard_inputs import STUDY_PARTS, Inputs
from vared_mm.report.leaderboard_measures import (
    MEASURES,
    SPEEDS,
    Measure,
    free_measures,
    numbers_of,
)
from vared_mm.report.paper_tables import PaperTable
from vared_mm.report.result import Result
from vared_mm.report.same_model import (
    MODEL,
    PARTS,
    averaged,
    differences,
    models_in,
    once_each,
    refuse_mixed,
    spelled,
    with_part,
)
from vared_mm.report.speed_conditions import speed_notes


@dataclass(frozen=True)
class Board:
    """A table: `texts` are read, by `numbers` of the same rows it is sorted and filtered.

    A missing number is NaN. What is of several results somewhere has its deviation in `numbers`
    too, as "<column> std"; what not all results of a row tell, how many do, as "<column> results".
    """

    title: str
    texts: pd.DataFrame
    numbers: pd.DataFrame
    notes: tuple[str, ...] = ()

    def numeric(self, column: str) -> bool:
        return is_numeric_dtype(self.numbers[column])

    def rows(self, index: pd.Index) -> Board:
        return replace(self, texts=self.texts.loc[index], numbers=self.numbers.loc[index])

    def filtered(self, condition: str) -> Board:
        """The rows that hold for an expression of pandas' `DataFrame.query` on `numbers`."""
        try:
            holds = self.numbers.eval(condition, engine="python")
            if not is_bool_dtype(holds):
                raise TypeError("it is neither true nor false")
            return self.rows(self.numbers.index[holds])
        # It may end in any way that Python knows.
        except Exception as error:
            columns = [c if c.isidentifier() else f"`{c}`" for c in self.numbers]
            raise ValueError(
                f"filter {condition!r} is not understood: {error}; wanted an expression of pandas' "
                "DataFrame.query, like full_gmacs < 0.2 or name.str.contains('vared'); the columns "
                f"of {self.title!r} are {', '.join(columns)}"
            ) from error

    def ordered(self, column: str) -> Board:
        """By a column, descending with a leading minus; rows without a number there come last."""
        name = column.removeprefix("-")
        if name not in self.numbers:
            raise ValueError(
                f"{self.title!r} has no column {name!r}; there are {', '.join(self.numbers)}"
            )
        by = self.numbers[name] if self.numeric(name) else self.numbers[name].str.casefold()
        return self.rows(by.sort_values(ascending=name == column, kind="stable").index)


def board_of(
    title: str, rows: pd.DataFrame, names: Sequence[str], forms: Mapping[str, str], notes: list[str]
) -> Board:
    """Of texts and, in their forms, of numbers; beside `x` may stand `x std`, `x results` and, to
    be read in the place of number and deviation, `x text`."""
    texts, numbers = rows[[*names]].copy(), rows[[*names]].copy()
    for name, form in forms.items():
        numbers[name] = rows[name]
        std = rows.get(f"{name} std", pd.Series(float("nan"), rows.index))
        if std.notna().any():
            numbers[f"{name} std"] = std
        told = [spelled(*cell, form) for cell in zip(rows[name], std, strict=True)]
        texts[name] = pd.Series(told, rows.index)
        if f"{name} text" in rows:
            texts[name] = rows[f"{name} text"].fillna(texts[name])
        counts = rows.get(f"{name} results", rows["results"]).fillna(0).astype(int)
        if counts.between(1, rows["results"] - 1).any():
            numbers[f"{name} results"] = counts
            cells = zip(texts[name], counts, rows["results"], strict=True)
            texts[name] = pd.Series([with_part(*cell) for cell in cells], rows.index)
    return Board(title, texts, numbers, tuple(notes))


def free_board(inputs: Inputs, mixed: bool = False) -> Board:
    """A row for each model, its seeds together: see `same_model`.

    Raises:
        MixedDataError: for results of different data, unless `mixed`.
    """
    if not inputs.results:
        raise ValueError("there are no results of models; redundancy studies stand in --table 12")
    measures = free_measures(inputs.results)
    models = models_in(inputs.results)
    if not mixed:
        refuse_mixed(models, "one table")
    rows, notes = of_models(models, inputs.results, measures)
    # What is needed to tell the models apart, and a little more.
    columns = ["name", "checkpoint", "data"]
    for part in ("training", "options"):
        if rows[part].any():
            columns.insert(1, part)
    if rows.groupby("name")["model"].nunique().max() > 1:
        rows["config"] = (rows["config"] + " " + rows["settings"]).str.strip()
        columns.insert(1, "config")
    if rows["data"].nunique() == 1:
        data = next(iter(inputs.results.values())).data
        rows["data"] = f"{data.name}, {data.samples}"
    forms = {"results": ".0f", **{name: measure.form for name, measure in measures.items()}}
    return board_of("Results", rows, columns, forms, notes)


def of_models(
    models: pd.DataFrame, results: Mapping[Path, Result], measures: Mapping[str, Measure]
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each model, and notes on what its numbers are of."""
    models, used, notes = once_each(models, results)
    each = models.join(numbers_of(used, measures))
    rows = averaged(each, list(measures), MODEL)
    for name in measures.keys() & {"speed", *SPEEDS}:
        tell_speeds(rows, each, name, used)
    return rows, [*speed_notes(used.values()), *notes]


def tell_speeds(
    rows: pd.DataFrame, each: pd.DataFrame, name: str, results: Mapping[Path, Result]
) -> None:
    """Those that were measured otherwise one by one: their mean would be of nothing. A single one
    in the free table with its quartiles."""
    for model, own in each.dropna(subset=name).groupby(MODEL):
        row = (rows[MODEL] == model).all(axis=1)
        if own["how"].nunique() > 1:
            rows.loc[row, f"{name} text"] = " / ".join(f"{speed:.1f}" for speed in own[name])
            rows.loc[row, [name, f"{name} std"]] = float("nan")
        elif len(own) == 1 and name in SPEEDS:
            speed: Any = results[own.index[0]].speed
            told = "{median:.1f} ({low:.1f} to {high:.1f})".format(**speed[name.removesuffix("/s")])
            rows.loc[row, f"{name} text"] = told


def paper_board(table: PaperTable, inputs: Inputs, mixed: bool = False) -> Board:
    """Every row of a table of the paper: ours, the paper's and the difference.

    Where several models are of one row, as epochs of one run or options, each has a row.

    Raises:
        MixedDataError: for results of different data whose configs name the same, unless `mixed`.
    """
    names = {"config": "name", **{column: f"{column} paper" for column in table.columns}}
    paper = table.rows.rename(columns=names)
    ours, notes = our_studies(table, inputs) if table.studied else our_models(table, inputs, mixed)
    rows = paper.merge(ours, how="left", on=["name", "axis"])
    parts = rows[rows.columns.intersection([*PARTS, *STUDY_PARTS])].fillna("")
    told = [text for _, own in parts.groupby(rows["row"], sort=False) for text in differences(own)]
    rows["row"] += [f" ({text})" if text else "" for text in told]
    rows["results text"] = rows["results"].isna().map({True: "not evaluated", False: None})
    rows["results"] = rows["results"].fillna(0).astype(int)
    forms = {"results": ".0f"}
    for column in table.columns:
        form = MEASURES[column].form
        rows[f"{column} diff"] = rows[column] - rows[f"{column} paper"]
        forms |= {column: form, f"{column} paper": "g", f"{column} diff": f"+{form}"}
    legend = "paper: the figure that the paper prints; diff: ours less the paper's."
    notes = [*filter(None, [table.note]), legend, *notes]
    return board_of(f"Table {table.number}. {table.caption}", rows, ["row"], forms, notes)


def our_models(table: PaperTable, inputs: Inputs, mixed: bool) -> tuple[pd.DataFrame, list[str]]:
    models = models_in(inputs.results)
    models = models[models["name"].isin(table.rows["config"])]
    if not mixed:
        # The name of a config ends with its data, of which Table 13 has two.
        for _, alike in models.groupby(models["name"].str.rsplit("_", n=1).str[-1]):
            refuse_mixed(alike, f"Table {table.number}")
    return of_models(models, inputs.results, {name: MEASURES[name] for name in table.columns})


def our_studies(table: PaperTable, inputs: Inputs) -> tuple[pd.DataFrame, list[str]]:
    studies = [s for s in inputs.studies.values() if s.name in {*table.rows["config"]}]
    each = [
        {"name": study.name, "axis": axis, **study.parts, **mean}
        for study in studies
        for axis, mean in study.mean.items()
    ]
    keys = ["name", "axis", *STUDY_PARTS]
    rows = pd.DataFrame(each, columns=[*keys, *table.columns])
    return averaged(rows, table.columns, keys), list(dict.fromkeys(map(str, studies)))


def unmatched(tables: Sequence[PaperTable], inputs: Inputs) -> list[str]:
    """The files that stand in no row of these tables."""
    studied, of_models = (
        {name for table in tables if table.studied == of for name in table.rows["config"]}
        for of in (True, False)
    )
    left = {p: r.name for p, r in inputs.results.items() if r.name not in of_models}
    left |= {p: s.name for p, s in inputs.studies.items() if s.name not in studied}
    return [f"{path} ({name})" for path, name in left.items()]
