"""Which results are the seeds of one model, to be averaged, and which are of one evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pandas as pd

from vared_mm.report.result import Result
from vared_mm.report.speed_conditions import measured_how, options_of
from vared_mm.report.training_settings import told_apart

MISSING = "–"
# Seeds have these alike, and lie in different folders; epochs of one run have not.
MODEL = ["model", "options", "training", "checkpoint", "data"]
# What tells models apart that a reader sees.
PARTS = ["config", "settings", "options", "training", "checkpoint", "data"]


class MixedDataError(ValueError):
    """Results of different data would stand in one table."""


def parts_of(result: Result) -> dict[str, str]:
    data = result.data
    numbers = json.dumps([result.checkpoint, result.metrics, result.cost], sort_keys=True)
    return {
        "name": result.name,
        "axis": "",
        # A config is known by its content, and by its path where that is not told.
        "model": result.settings or result.config,
        "config": result.config,
        "settings": (result.settings or "")[:8],
        "options": options_of(result),
        "training": "",
        "checkpoint": Path(result.checkpoint).stem,
        "set": f"{data.name} {data.fingerprint}",
        "data": f"{data.name} {data.file}, {data.samples} samples [{data.fingerprint[:8]}]",
        "created": result.created,
        # The same of the same weights; where these are not told, of the same file and numbers.
        "evaluation": result.weights or numbers,
        "how": measured_how(result),
    }


def models_in(results: Mapping[Path, Result]) -> pd.DataFrame:
    """What each result is of, by its file."""
    columns = ["name", "axis", *{*MODEL, *PARTS}, "set", "created", "evaluation", "how"]
    models = pd.DataFrame(map(parts_of, results.values()), list(results), columns)
    # One set may lie in several places: it is told by the first.
    models["data"] = models.groupby("set")["data"].transform("first")
    # Evaluations of former versions tell none, and later ones of the same weights do.
    known = {r.weights: r.training for r in results.values() if r.weights and r.training}
    alike = [part for part in MODEL if part != "training"]
    for _, own in models.groupby(alike):
        trainings = [results[i].training or known.get(results[i].weights or "") for i in own.index]
        models.loc[own.index, "training"] = told_apart(trainings)
    return models


def once_each(
    models: pd.DataFrame, results: Mapping[Path, Result]
) -> tuple[pd.DataFrame, dict[Path, Result], list[str]]:
    """The last evaluation of each weights, with what former ones alone tell, and a note that names
    these, if any."""
    by_time = models.sort_values("created", kind="stable")
    same = by_time.groupby(["model", "options", "training", "data", "evaluation"], sort=False)
    whole = {
        own.index[-1]: reduce(filled, [results[path] for path in reversed(own.index)])
        for _, own in same
    }
    others = ", ".join(str(path) for path in by_time.index if path not in whole)
    notes = [f"Counted once, as evaluated again: {others}."] if others else []
    used = {path: whole[path] for path in models.index if path in whole}
    return models.loc[list(used)].assign(how=list(map(measured_how, used.values()))), used, notes


def filled(result: Result, former: Result) -> Result:
    """The result, with speed, choices and their judgement of a former one of the same evaluation
    where they hold and it has none."""
    if result.speed is None and former.device == result.device:
        result = replace(result, speed=former.speed)
    if result.choices is None:
        return replace(result, choices=former.choices)
    if former.choices and former.choices["judged"] and not result.choices["judged"]:
        kept = {name: former.choices[name] for name in ("judged", "verdict")}
        result = replace(result, choices={**result.choices, **kept})
    return result


def refuse_mixed(models: pd.DataFrame, where: str) -> None:
    files = {data: ", ".join(map(str, own.index)) for data, own in models.groupby("data")}
    if len(files) > 1:
        listed = "\n".join(f"  {data}: {paths}" for data, paths in files.items())
        raise MixedDataError(
            f"results of {len(files)} different data sets would stand in {where}, where numbers "
            f"are compared:\n{listed}\nGive those of one alone, or --mixed-data"
        )


def averaged(rows: pd.DataFrame, columns: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """A row for those that have the keys alike, in the order they came: how many `results` it is
    of, the mean of each column, how many of them tell it, as "<column> results", and, of several
    numbers, the deviation as "<column> std"."""
    rows = rows.astype(dict.fromkeys(columns, float))
    groups = rows.groupby([*keys], sort=False)
    numbers = groups[[*columns]]
    told = groups.first().drop(columns=[*columns]).assign(results=groups.size())
    deviations = numbers.std().add_suffix(" std")
    counts = numbers.count().add_suffix(" results")
    return pd.concat([told, numbers.mean(), deviations, counts], axis=1).reset_index()


def spelled(mean: float, deviation: float, form: str) -> str:
    if math.isnan(mean):
        return MISSING
    return f"{mean:{form}}" + ("" if math.isnan(deviation) else f" ± {deviation:{form}}")


def with_part(text: str, told: int, among: int) -> str:
    """The text of a mean, with how many it is of where others of those it stands for tell none."""
    return f"{text} ({told} of {among})" if 0 < told < among else text


def differences(models: pd.DataFrame) -> list[str]:
    """For each of several models what the others have not; nothing of a single one."""
    names = [name for name in models if models[name].nunique() > 1]
    if "config" in names and "settings" in names:
        names.remove("settings")
    told = models[names].apply(lambda part: part.where(part != "", f"no {part.name}"))
    return [", ".join(row) for row in told.to_numpy()]
