"""The record of one evaluated model: a folder with result.json and samples.npz.

The unit is the MAC. Shares are in [0, 1]; metrics stand as the toolbox names and scales them.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vared_mm.files import write_bytes, write_json

FORMAT, VERSION = "vared_mm result", 1
RESULT, SAMPLES = "result.json", "samples.npz"
TASKS = ("recognition", "localization", "segmentation", "detection")
AGAIN = "run tools/evaluate.py again"


class ResultError(ValueError):
    """A file is no result, or not one of this version."""


@dataclass(frozen=True)
class Data:
    """What was evaluated.

    Args:
        name: The dataset's class.
        file: Its annotation file, or the folder of what it has none for.
        classes: Their names in the order of the labels, None where nothing tells them.
        fingerprint: Of the samples' identities and labels; where it differs, metrics cannot be
            compared.
    """

    name: str
    file: str
    samples: int
    classes: tuple[str, ...] | None
    fingerprint: str


@dataclass(frozen=True)
class Result:
    """What tools/evaluate.py told of one model.

    Args:
        name: The config's file name without its ending.
        options: What `--cfg-options` changed in the config.
        commit: Of the vared_mm repository, None outside of one.
        created: ISO 8601, in UTC.
        metrics: None stands for what is not a finite number.
        cost: As `cost_metric.summarise` makes it.
        speed: None, or `static`, of a dynamic model `dynamic`, each with `median`, `low` and `high`
            (quartiles) clips or images per second, and `conditions`.
        weights, settings: Digests of the model's parameters and buffers, and of its config; None of
            results that were written without.
    """

    name: str
    config: str
    options: Mapping[str, Any]
    checkpoint: str
    commit: str | None
    created: str
    task: str
    data: Data
    device: str
    threads: int
    packages: Mapping[str, str]
    parameters: int
    metrics: Mapping[str, float | None]
    cost: Mapping[str, Any]
    speed: Mapping[str, Any] | None
    weights: str | None = None
    settings: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; wanted one of {TASKS}")

    @property
    def dynamic(self) -> bool:
        return bool(self.cost["layers"])


@dataclass(frozen=True)
class Samples:
    """The N evaluated samples in the order of the data set, with L dynamic convolutions.

    Args:
        file: (N,) strings: a file, or `<video>:<frame>` of a key frame.
        label, predicted: (N,) integers, -1 where there is none or more than one.
        correct: (N,) in [0, 1]: whether a clip is right, which share of an image's pixels or of a
            key frame's boxes is; NaN where nothing tells.
        share: (N,) paper / dense MACs over the dynamic convolutions, 1 of a static model.
        paper_gmacs, full_gmacs: (N,) of the network.
        layer_names: (L,) strings.
        layer_dense: (N, L) MACs of the plain convolutions.
        layer_share: (N, L) r/R.
    """

    file: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    share: np.ndarray
    paper_gmacs: np.ndarray
    full_gmacs: np.ndarray
    layer_names: np.ndarray
    layer_dense: np.ndarray
    layer_share: np.ndarray

    def __post_init__(self) -> None:
        n, layers = len(self.file), len(self.layer_names)
        for field in fields(self):
            wanted: tuple[int, ...] = (n,)
            if field.name.startswith("layer_"):
                wanted = (layers,) if field.name == "layer_names" else (n, layers)
            if (came := getattr(self, field.name).shape) != wanted:
                raise ValueError(
                    f"{field.name} has shape {came}; wanted {wanted}, as there are {n} files "
                    f"and {layers} layer_names"
                )

    def __len__(self) -> int:
        return len(self.file)


def read_result(path: str | Path) -> Result:
    """From a result.json or its folder.

    Raises:
        ResultError: for a file that is none, of another version, or not whole.
    """
    path = inside(path, RESULT)
    try:
        # NaN and Infinity, which are no JSON, are no numbers.
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path} is no JSON ({error}); {AGAIN}") from error
    check_version(path, content)
    data = whole(path, content.get("data", {}), Data)
    settings = whole(path, content, Result)
    try:
        classes = data["classes"]
        data["classes"] = None if classes is None else tuple(classes)
        result = Result(**{**settings, "data": Data(**data)})
        odd = [name for name, good in parts_are_good(result) if not good]
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{path} is damaged: {error}; {AGAIN}") from error
    if odd:
        raise ResultError(f"{path} has no {odd[0]} as tools/evaluate.py writes it; {AGAIN}")
    return result


def parts_are_good(result: Result) -> Iterator[tuple[str, bool]]:
    """What tables and pictures are made of, in a file that anyone may have written."""
    data, cost, speed = result.data, result.cost, result.speed or {}
    for name in ("name", "config", "checkpoint", "created", "device"):
        yield name, isinstance(getattr(result, name), str)
    for name in ("name", "file", "fingerprint"):
        yield f"data.{name}", isinstance(getattr(data, name), str)
    yield "data.classes", all(isinstance(name, str) for name in data.classes or ())
    for name in ("options", "packages", "metrics", "cost"):
        yield name, isinstance(getattr(result, name), dict)
    numbers = [data.samples, result.parameters, result.threads, cost["dense_gmacs"]]
    numbers += [v for v in result.metrics.values() if v is not None]
    for kind in ("share", "paper_gmacs", "full_gmacs"):
        numbers += [cost[kind][end] for end in ("avg", "min", "max")]
    for kind in ("static", "dynamic"):
        numbers += [speed[kind][end] for end in ("median", "low", "high") if speed.get(kind)]
    yield "numbers", all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
    yield "cost.layers", all(isinstance(layer["name"], str) for layer in cost["layers"])
    yield "speed.conditions", isinstance(speed.get("conditions", {}), dict)


def check_version(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        came = repr(content.get("format")) if isinstance(content, dict) else "no mapping"
        raise ResultError(
            f"{path} is no result: wanted format={FORMAT!r}, came {came}; "
            "tools/evaluate.py CONFIG CHECKPOINT writes results"
        )
    if content.get("version") != VERSION:
        raise ResultError(
            f"{path} has version {content.get('version')!r}; this vared_mm reads version "
            f"{VERSION}; {AGAIN}"
        )


def whole(path: Path, content: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The fields of a dataclass from what a file holds; what it holds beside them is left."""
    if not isinstance(content, Mapping):
        raise ResultError(f"{path} is damaged: it has no mapping for {kind.__name__}; {AGAIN}")
    wanted = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in wanted if name not in content]:
        raise ResultError(
            f"{path} lacks {', '.join(missing)}; wanted are {', '.join(wanted)}; {AGAIN}"
        )
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}


def read_samples(path: str | Path) -> Samples:
    """From a samples.npz, or the folder or result.json beside it.

    Raises:
        ResultError: for a file that is none or not whole.
    """
    path = Path(path)
    path = inside(path.parent if path.name == RESULT else path, SAMPLES)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Samples(**whole(path, dict(arrays), Samples))
    except ResultError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ResultError(f"{path} holds no samples of a result ({error}); {AGAIN}") from error


def inside(path: str | Path, name: str) -> Path:
    """The file itself, or that of this name in a folder."""
    path = Path(path)
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise ResultError(
            f"there is no {file}; wanted a folder that tools/evaluate.py wrote, or its {name}"
        )
    return file


def write_result(folder: str | Path, result: Result) -> Path:
    """Writes result.json into the folder, and tells where."""
    content = asdict(result)
    metrics = {
        k: v if v is not None and math.isfinite(v) else None for k, v in result.metrics.items()
    }
    path = Path(folder, RESULT)
    write_json(path, {"format": FORMAT, "version": VERSION, **content, "metrics": metrics})
    return path


def write_samples(folder: str | Path, samples: Samples) -> Path:
    """Writes samples.npz into the folder, and tells where."""
    held = io.BytesIO()
    # np.savez has a parameter of its own that is called file.
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in vars(samples).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    path = Path(folder, SAMPLES)
    write_bytes(path, held.getvalue())
    return path
