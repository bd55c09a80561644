"""The files that a leaderboard is made of: results of models, and redundancy studies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vared_mm.datasets.folders import files_below
from vared_mm.report.result import RESULT, Result, ResultError, read_result

STUDY = "redundancy.json"


@dataclass(frozen=True)
class Study:
    """What tools/redundancy.py told: `mean` has `cc`, `rmse` and `rp` for each axis; `told` is what
    it was made of, `parts` what others have to have alike to be averaged with it."""

    name: str
    path: Path
    mean: Mapping[str, Mapping[str, float | None]]
    told: str
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """Results by the file they are of; `left` tells of files that are neither, found in folders."""

    results: Mapping[Path, Result]
    studies: Sequence[Study]
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
    studies: dict[str, Study] = {}
    left: list[ResultError] = []
    for file in files:
        try:
            if study := study_of(file):
                studies.setdefault(json.dumps([study.told, study.parts, study.mean]), study)
            else:
                results[file] = read_result(file)
        except ResultError as error:
            if file in named:
                raise
            left.append(error)
    if left and not results and not studies:
        raise left[0]
    return Inputs(results, list(studies.values()), list(map(str, left)))


def files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    below = files_below(path) if path.is_dir() else ()
    found = sorted(path / file for file in below if file.name in (RESULT, STUDY))
    if not found:
        what = "is not there" if not path.is_dir() else f"holds no {RESULT} and no {STUDY}"
        raise ResultError(
            f"{path} {what}; tools/evaluate.py and tools/redundancy.py write such files"
        )
    yield from found


def study_of(file: Path) -> Study | None:
    """None for what is no study, which may be a result.

    Raises:
        ResultError: It is a damaged one.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    wanted = {"config", "checkpoint", "samples", "mean", "thresholds", "layers"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        return None
    try:
        return study_from(file, content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{file} is damaged: {error!r}; run tools/redundancy.py again") from error


def study_from(file: Path, content: dict[str, Any]) -> Study:
    name, weights = Path(content["config"]).stem, content["checkpoint"] or "random weights"
    thresholds = " ".join(f"{name}={value}" for name, value in content["thresholds"].items())
    told = f"Study of {name}: {weights}, {content['samples']} samples; RP by {thresholds}."
    mean = {
        axis: {
            measure: None if value is None else float(value)
            for measure, value in ((m, content["mean"][axis][m]) for m in ("cc", "rmse", "rp"))
        }
        for axis in ("time", "channel")
    }
    layers = hashlib.sha256(" ".join(layer["name"] for layer in content["layers"]).encode())
    parts = {
        "config": content["config"],
        "weights": Path(weights).stem,
        "samples": f"{content['samples']} samples",
        "thresholds": thresholds,
        "layers": f"{len(content['layers'])} layers [{layers.hexdigest()[:8]}]",
    }
    return Study(name, file, mean, told, parts)
