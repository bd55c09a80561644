"""Which results may be averaged, the seeds of one model, and which are of one evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from vared_mm.report.result import Result

Of = TypeVar("Of")
Parts = Mapping[str, str]
"""What tells a model apart from others, by name."""


def parts_of(result: Result) -> dict[str, str]:
    """Seeds have these alike, and lie in different folders; epochs of one run have not."""
    data = result.data
    return {
        "config": result.config,
        "settings": result.settings or "",
        "options": options_of(result),
        "checkpoint": Path(result.checkpoint).stem,
        "data": f"{data.name} {data.file}, {data.samples} [{data.fingerprint[:8]}]",
    }


def options_of(result: Result) -> str:
    return " ".join(f"{name}={value}" for name, value in result.options.items())


def key_of(parts: Parts) -> tuple[str, ...]:
    """A config is known by its content, and by its path where that is not told."""
    config = parts.get("settings") or parts["config"]
    return config, *(v for k, v in parts.items() if k not in ("config", "settings"))


def by_model(things: Iterable[Of], parts: Callable[[Of], Parts]) -> list[list[Of]]:
    """Each model's, in the order they came."""
    groups: dict[tuple[str, ...], list[Of]] = {}
    for one in things:
        groups.setdefault(key_of(parts(one)), []).append(one)
    return list(groups.values())


def apart(models: Sequence[Parts]) -> list[str]:
    """For each of several models what the others have not; nothing of a single one."""
    names = [name for name in (models[0] if models else ()) if len({m[name] for m in models}) > 1]
    if "config" in names and "settings" in names:
        names.remove("settings")
    return [
        ", ".join(m[name][:8] if name == "settings" else m[name] or f"no {name}" for name in names)
        for m in models
    ]


def once_each(results: Mapping[Path, Result]) -> tuple[dict[Path, Result], list[str]]:
    """The last evaluation of each weights, and a note that names the others, if any."""
    groups: dict[str, list[Path]] = {}
    for path, result in results.items():
        groups.setdefault(evaluation_of(result), []).append(path)
    kept: dict[Path, Result] = {}
    others: list[str] = []
    for paths in groups.values():
        *former, last = sorted(paths, key=lambda path: results[path].created)
        kept[last] = results[last]
        others += map(str, former)
    notes = [f"Counted once, as evaluated again: {', '.join(others)}."] if others else []
    return {path: result for path, result in results.items() if path in kept}, notes


def evaluation_of(result: Result) -> str:
    """The same of the same weights; where these are not told, of the same file and numbers."""
    config, options, _, data = key_of(parts_of(result))
    if result.weights:
        return json.dumps([config, options, data, result.weights])
    numbers = [result.metrics, result.cost]
    return json.dumps([config, options, data, result.checkpoint, numbers], sort_keys=True)
