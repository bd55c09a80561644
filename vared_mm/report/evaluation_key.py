"""What an evaluation depends on, as digests: where one differs, kept work is of something else."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

import vared_mm

# Of a config, how the run is started and what it shows; the rest may decide how metrics come out.
INDECISIVE = ("launcher", "model_wrapper_cfg", "work_dir", "log_level")
INSTALLED = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def digest(*told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=spelled).encode()).hexdigest()


def spelled(value: Any) -> str:
    """Alike in every process: the text of a function tells where it lies in memory, and that of a
    set has its members in any order."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def settings_digest(config: Config) -> str:
    parts = {name: value for name, value in config.items() if name not in INDECISIVE}
    loader = dict(parts.get("test_dataloader") or {})
    for name in ("num_workers", "persistent_workers"):
        loader.pop(name, None)
    return digest({**parts, "test_dataloader": loader})


def weights_digest(state: Mapping[str, Any]) -> str:
    """Of parameters and buffers, wherever they came from and lie."""
    told = hashlib.sha256()
    for name, value in state.items():
        if isinstance(value, Tensor):
            told.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            told.update(flat.view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def code_digest() -> str:
    """Of vared_mm and of all that is imported and not installed, as what `custom_imports` names."""
    told = hashlib.sha256()
    for file in sorted({*own_files(), *users_files()}):
        told.update(file.read_bytes())
    return told.hexdigest()


def own_files() -> Iterator[Path]:
    folder = Path(vared_mm.__file__).resolve().parent
    return (f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)


def users_files() -> Iterator[Path]:
    own = str(Path(vared_mm.__file__).resolve().parent) + os.sep
    for module in list(sys.modules.values()):
        file = os.path.realpath(getattr(module, "__file__", None) or "")
        if os.path.isfile(file) and not file.startswith((*INSTALLED, own)):
            yield Path(file)


def times_of(places: Sequence[str]) -> list[int | None]:
    """When files were last changed: another one may be as long as the one it took the place of. Of
    a folder it is the last change in it."""
    times = {place: time_of(place) for place in {*places}}
    return [times[place] for place in places]


def time_of(place: str) -> int | None:
    if not os.path.exists(place):
        return None
    within = os.scandir(place) if os.path.isdir(place) else ()
    return max(os.stat(place).st_mtime_ns, *(one.stat().st_mtime_ns for one in within), 0)
