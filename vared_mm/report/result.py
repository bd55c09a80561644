"""The record of one tested model, result.json, and of its samples, samples.npz.

The unit is the MAC. Shares are in [0, 1]; metrics stand as the toolbox names and scales them.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vared_mm.files import check_kept, write_bytes, write_json
from vared_mm.printing import visible
from vared_mm.report.choices import Choices
from vared_mm.report.policies import Policies
from vared_mm.report.record_types import (
    AnyText,
    Cost,
    Count,
    Number,
    Speeds,
    checked_as,
    finite_or_none,
)

FORMAT, VERSION = "vared_mm result", 1
RESULT, SAMPLES = "result.json", "samples.npz"
AGAIN = "run vared-mm evaluate again"


class ResultError(ValueError):
    """A file is no result, or not one of this version."""


Tasks = Literal["recognition", "localization", "segmentation", "detection"]


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

    name: AnyText
    file: AnyText
    samples: Count
    classes: tuple[AnyText, ...] | None
    fingerprint: AnyText


@dataclass(frozen=True)
class Result:
    """What was told of one model by a test, or by an evaluation, which times it too.

    Args:
        name: The config's file name without its ending.
        options: What `--cfg-options` and `--seed` changed in the config.
        commit: Of the vared_mm repository, None outside of one.
        created: ISO 8601, in UTC.
        task: None where the model's head does not tell it.
        metrics: None stands for what is not a finite number.
        cost: None where no `CostMetric` took part.
        speed: None where it was not measured. `static` and, of a dynamic model, `dynamic`.
        weights, settings: Digests of the model's parameters and buffers, and of its config; None of
            results that were written without.
        choices: None of a static model, and where nothing is kept of single samples.
        training: As `training_of` has it; None where the checkpoint does not tell it.
    """

    name: AnyText
    config: AnyText
    options: dict[str, Any]
    checkpoint: AnyText
    commit: str | None
    created: str
    task: Annotated[str | None, checked_as(Tasks | None)]
    data: Data
    device: str
    threads: Count
    packages: dict[str, str]
    parameters: Count
    metrics: Mapping[str, Annotated[Number | None, BeforeValidator(finite_or_none)]]
    cost: Annotated[Any, checked_as(Cost | None)]
    speed: Annotated[Mapping[str, Any] | None, checked_as(Speeds | None)]
    weights: str | None = None
    settings: str | None = None
    choices: Annotated[Any, checked_as(Choices | None)] = None
    training: dict[str, Any] | None = None

    @property
    def dynamic(self) -> bool:
        return bool(self.cost and self.cost["layers"])


@plain_dataclass(frozen=True)
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
        layer_share: (N, L) r/R, NaN where it did not run.
        loss: (N,), NaN where nothing tells it.
        policy, policy_answers, gate_names, gate_answers, gate_counts: As `Policies` has them:
            (N, V), (P, K), (K,), and twice (Q, K).
        layer_frames: (L,) that each convolution answers with, to a clip.

    The last seven may be None, as in files that were written without; of a static model the last
    six are.
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
    loss: np.ndarray | None = None
    policy: np.ndarray | None = None
    policy_answers: np.ndarray | None = None
    gate_names: np.ndarray | None = None
    gate_answers: np.ndarray | None = None
    gate_counts: np.ndarray | None = None
    layer_frames: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, layers = len(self.file), len(self.layer_names)
        wanted: dict[str, tuple[int, ...]] = {field.name: (n,) for field in fields(self)[:-6]}
        wanted |= {"layer_names": (layers,), "layer_dense": (n, layers), "layer_share": (n, layers)}
        for name, shape in wanted.items():
            if (one := getattr(self, name)) is not None and (came := one.shape) != shape:
                raise ValueError(
                    f"{name} has shape {came}; wanted {shape}, as there are {n} files and {layers} "
                    "layer_names"
                )

    def __len__(self) -> int:
        return len(self.file)

    @property
    def policies(self) -> Policies | None:
        if self.policy is None or self.policy_answers is None or self.gate_names is None:
            return None
        return Policies(
            self.policy, self.policy_answers, self.gate_names, self.gate_answers, self.gate_counts
        )


def read_result(path: str | Path) -> Result:
    """From a result.json, or a file of that kind with another name, or its folder.

    Raises:
        ResultError: for a file that is none, of another version, or not whole.
    """
    path = inside(path, RESULT)
    return result_in(path, json_in(path))


def with_results(paths: Sequence[Path]) -> list[Path]:
    """Without folders that have none, as those of checkpoints at a budget or of an evaluation that
    is not finished; these are told. If that is all of them, the paths as they are."""
    empty = [path for path in paths if path.is_dir() and not (path / RESULT).is_file()]
    if len(empty) == len(paths):
        return list(paths)
    for path in empty:
        print(visible(f"left out: {path} has no {RESULT}"), file=sys.stderr)
    return [path for path in paths if path not in empty]


def json_in(path: Path) -> Any:
    try:
        # NaN and Infinity, which are no JSON, are no numbers.
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path} is damaged: it is no JSON ({error}); {AGAIN}") from error


def result_in(path: Path, content: Any) -> Result:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        came = repr(content.get("format")) if isinstance(content, dict) else "no mapping"
        raise ResultError(
            f"{path} is no result: wanted format={FORMAT!r}, came {came}; vared-mm test --json and "
            "vared-mm evaluate write results"
        )
    if content.get("version") != VERSION:
        raise ResultError(
            f"{path} has version {content.get('version')!r}; this vared_mm reads version "
            f"{VERSION}; {AGAIN}"
        )
    return checked(path, content, Result, AGAIN)


def checked(path: Path, content: Any, kind: type, cure: str) -> Any:
    """The record that a file's content is; what it holds beside the fields is left.

    Raises:
        ResultError: A field is missing or is not what it has to be.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        raise ResultError(f"{path} is damaged: {'; '.join(told[:3])}{more}; {cure}") from error


def read_samples(path: str | Path) -> Samples:
    """From a samples.npz, or the folder or result.json beside it.

    Raises:
        ResultError: for a file that is none or not whole.
    """
    path = Path(path)
    folder = path if path.is_dir() or path.suffix == ".npz" else path.parent
    path = inside(folder, SAMPLES)
    names = [field.name for field in fields(Samples)]
    wanted = [field.name for field in fields(Samples) if field.default is MISSING]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := [name for name in wanted if name not in arrays]:
                raise ValueError(f"it lacks {', '.join(missing)} of {', '.join(wanted)}")
            return Samples(**{name: arrays[name] for name in names if name in arrays})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ResultError(f"{path} holds no samples of a result ({error}); {AGAIN}") from error


def inside(path: str | Path, name: str) -> Path:
    """The file itself, or that of this name in a folder."""
    path = Path(path)
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise ResultError(
            f"there is no {file}; wanted a folder that vared-mm evaluate wrote, or its {name}"
        )
    return file


def check_records_kept(results: Iterable[Path], written: str | Path | None) -> None:
    """As `check_kept`, of results that are named by their files or their folders."""
    for path in results:
        record = path / RESULT if path.is_dir() else path
        check_kept([record, record.with_name(SAMPLES)], written)


def content_of(result: Result) -> dict[str, Any]:
    """What stands in the file of a result."""
    return {"format": FORMAT, "version": VERSION, **asdict(result)}


def write_result(folder: str | Path, result: Result) -> Path:
    """Writes result.json into the folder, and tells where."""
    path = Path(folder, RESULT)
    write_json(path, content_of(result))
    return path


def write_samples(folder: str | Path, samples: Samples) -> Path:
    """Writes samples.npz into the folder, and tells where."""
    held = io.BytesIO()
    # np.savez has a parameter of its own that is called file.
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in vars(samples).items():
            if array is None:
                continue
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    path = Path(folder, SAMPLES)
    write_bytes(path, held.getvalue())
    return path
