"""The files that a leaderboard is made of: results of models, and redundancy studies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from vared_mm.datasets.folders import files_below
from vared_mm.report.record_types import AnyText, LayerCost, Number, checked_as
from vared_mm.report.result import RESULT, Result, ResultError, checked, json_in, result_in

STUDY = "redundancy.json"
# What studies have to have alike to be averaged.
STUDY_PARTS = ["config", "weights", "samples", "thresholds", "layers"]


class Means(TypedDict):
    cc: Number | None
    rmse: Number | None
    rp: Number | None


class AxisMeans(TypedDict):
    time: Means
    channel: Means


@dataclass(frozen=True)
class Study:
    """What tools/redundancy.py tells."""

    config: AnyText
    checkpoint: AnyText | None
    samples: int
    thresholds: dict[str, Any]
    layers: list[LayerCost]
    mean: Annotated[dict[str, dict[str, float | None]], checked_as(AxisMeans)]

    @property
    def name(self) -> str:
        return Path(self.config).stem

    @property
    def rule(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.thresholds.items())

    def __str__(self) -> str:
        weights = self.checkpoint or "random weights"
        return f"Study of {self.name}: {weights}, {self.samples} samples; RP by {self.rule}."

    @property
    def parts(self) -> dict[str, str]:
        layers = " ".join(layer["name"] for layer in self.layers)
        digest = hashlib.sha256(layers.encode(errors="surrogateescape")).hexdigest()[:8]
        return {
            "config": self.config,
            "weights": Path(self.checkpoint or "random weights").stem,
            "samples": f"{self.samples} samples",
            "thresholds": self.rule,
            "layers": f"{len(self.layers)} layers [{digest}]",
        }


class Inputs(NamedTuple):
    """By the file they are of; `left` tells of files that are neither, found in folders."""

    results: Mapping[Path, Result]
    studies: Mapping[Path, Study]
    left: Sequence[str] = ()


def collect(paths: Sequence[str | Path]) -> Inputs:
    """From files, their folders, and folders of folders; each file once, of equal studies one.

    Raises:
        ResultError: for a path with nothing in it, and for a file that is neither and was named, or
            is all there is.
    """
    named = {Path(path).resolve() for path in paths if Path(path).is_file()}
    files = dict.fromkeys(file.resolve() for path in paths for file in files_of(Path(path)))
    results: dict[Path, Result] = {}
    studies: dict[Path, Study] = {}
    left: list[ResultError] = []
    of_study = {field.name for field in fields(Study)}
    for file in files:
        try:
            content = json_in(file)
            if not isinstance(content, dict) or not of_study <= content.keys():
                results[file] = result_in(file, content)
                continue
            study = checked(file, content, Study, "run vared-mm redundancy again")
            if study not in studies.values():
                studies[file] = study
        except ResultError as error:
            if file in named:
                raise
            left.append(error)
    if left and not results and not studies:
        raise left[0]
    return Inputs(results, studies, list(map(str, left)))


def files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    below = files_below(path) if path.is_dir() else ()
    found = sorted(path / file for file in below if file.name in (RESULT, STUDY))
    if not found:
        what = "is not there" if not path.is_dir() else f"holds no {RESULT} and no {STUDY}"
        raise ResultError(
            f"{path} {what}; vared-mm evaluate and vared-mm redundancy write such files"
        )
    yield from found
