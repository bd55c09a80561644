"""What the tasks share: a row for each file, whatever happens to the others, and class names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from vared_mm.datasets.video_faults import without_source
from vared_mm.screen import tracked
from vared_mm.settings import metainfo_of

Row = dict[str, Any]


class StoppedError(KeyboardInterrupt):
    """Interrupted, with a row for each file: those that were not answered have an `error`."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.rows = rows


def rows_of(files: Sequence[Path], answer: Callable[[Path], Row]) -> list[Row]:
    """What `answer` says of each file; one that it fails for has an `error` instead.

    Raises:
        StoppedError: It was interrupted.
    """
    rows: list[Row] = []
    try:
        for file in tracked(files, len(files), "files"):
            rows.append(row_of(file, answer))
    except KeyboardInterrupt:
        told = "not answered, as the work was interrupted"
        rest = [{"file": str(file), "error": told} for file in files[len(rows) :]]
        raise StoppedError(rows + rest) from None
    return rows


def row_of(file: Path, answer: Callable[[Path], Row]) -> Row:
    try:
        return {"file": str(file), **answer(file)}
    except Exception as error:
        return {"file": str(file), "error": sentence(error)}


def sentence(error: Exception) -> str:
    """On one line, without the stack traces that decoders put behind a blank one."""
    text = " ".join(without_source(str(error).partition("\n\n")[0]).split())
    own = text and isinstance(error, OSError | ValueError)
    return text if own else f"{type(error).__name__}: {text}"


def check_finite(*scores: Tensor) -> None:
    if not all(bool(one.isfinite().all()) for one in scores):
        raise ValueError(
            "the scores of the network are not all finite numbers (NaN or infinity); did its "
            "training diverge?"
        )


def classes_of(model: BaseModel, config: Config, count: int) -> dict[str, Any]:
    """What the checkpoint says of its data set, else the config of its test set, with `classes`.

    Without names, numbers stand for them.

    Raises:
        ValueError: They are not `count`.
    """
    meta = getattr(model, "dataset_meta", None) or {}
    meta = meta if meta.get("classes") else metainfo_of(config)
    names = meta.get("classes") or [f"class {i}" for i in range(count)]
    if isinstance(names, str):
        raise ValueError(f"the data set's classes are {names!r}; wanted a list of {count} names")
    if len(names) != count:
        raise ValueError(
            f"the data set has {len(names)} classes, the model {count}; is the config the "
            "checkpoint's?"
        )
    return {**meta, "classes": [str(name) for name in names]}
