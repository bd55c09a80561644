"""The files that a leaderboard is made of: results of models, and redundancy studies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vared_mm.report.result import RESULT, Result, ResultError, read_result

STUDY = "redundancy.json"


@dataclass(frozen=True)
class Study:
    """What tools/redundancy.py told: `mean` has `cc`, `rmse` and `rp` for each axis; `told` is what
    it was made of."""

    name: str
    path: Path
    mean: Mapping[str, Mapping[str, float | None]]
    told: str


@dataclass(frozen=True)
class Inputs:
    """Results by the file they are of."""

    results: Mapping[Path, Result]
    studies: Sequence[Study]


def collect(paths: Sequence[str | Path]) -> Inputs:
    """From files, their folders, and folders of folders; each file once.

    Raises:
        ResultError: for a path with nothing in it, and for a file that is neither.
    """
    files = dict.fromkeys(file.resolve() for path in paths for file in files_of(Path(path)))
    results: dict[Path, Result] = {}
    studies = []
    for file in files:
        if study := study_of(file):
            studies.append(study)
        else:
            results[file] = read_result(file)
    return Inputs(results, studies)


def files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    found = sorted(f for name in (RESULT, STUDY) for f in path.rglob(name))
    if not found:
        what = "is not there" if not path.is_dir() else f"holds no {RESULT} and no {STUDY}"
        raise ResultError(
            f"{path} {what}; tools/evaluate.py and tools/redundancy.py write such files"
        )
    yield from found


def study_of(file: Path) -> Study | None:
    """None for what is no study, which may be a result."""
    try:
        content: Any = json.loads(file.read_text())
    except ValueError:
        return None
    wanted = {"config", "checkpoint", "samples", "mean", "thresholds"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        return None
    name, weights = Path(content["config"]).stem, content["checkpoint"] or "random weights"
    thresholds = " ".join(f"{name}={value}" for name, value in content["thresholds"].items())
    told = f"Study of {name}: {weights}, {content['samples']} samples; RP by {thresholds}."
    return Study(name, file, content["mean"], told)
