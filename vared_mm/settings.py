"""What a config says, under any scope and within wrappers of any depth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS


def kind(settings: Mapping[str, Any]) -> str:
    """The bare name of its `type`, which may have a scope, or be the class itself."""
    named = settings["type"]
    return str(getattr(named, "__name__", named)).rpartition(".")[2]


def within(dataset: Any) -> Iterator[Any]:
    """The data sets, built or as settings, in any wrappers around them."""
    parts = part(dataset, "datasets") or [part(dataset, "dataset")]
    parts = [p for p in parts if hasattr(p, "__getitem__") and not isinstance(p, str)]
    if not parts:
        yield dataset
        return
    for inner in parts:
        yield from within(inner)


def part(dataset: Any, name: str) -> Any:
    # Not `getattr`: wrappers hand on what they lack to the set within.
    return (dataset if isinstance(dataset, Mapping) else getattr(dataset, "__dict__", {})).get(name)


def innermost(dataset: Any) -> Any:
    """The first of them."""
    return next(within(dataset))


def bases_of(file: str) -> list[str]:
    """The config file, and those that it is based on, directly or not."""
    bases = [Config._get_cfg_path(base, file)[0] for base in Config._get_base_files(file)]
    return [file, *(one for base in bases for one in bases_of(base))]


def data_of(config: Config) -> Any:
    """The settings of the config's test set, with its wrappers.

    Raises:
        ValueError: It has none.
    """
    dataset = part(config.get("test_dataloader") or {}, "dataset")
    if dataset is None:
        raise ValueError(
            "wanted a config with a test_dataloader, whose data set tells the pipeline"
        )
    return dataset


def pipeline_of(config: Config) -> list[dict[str, Any]]:
    """That of the test set: a wrapper's, where it has one, replaces that of the set within. Of
    several in one it is the first's, with a warning where they differ.

    Raises:
        ValueError: It has none.
    """
    first, *others = pipelines_in(data_of(config)) or [None]
    if first is None:
        raise ValueError("wanted a test set with a pipeline; that of the config has none")
    if any(other != first for other in others):
        warnings.warn(
            "the parts of the test set have different pipelines; that of the first is taken",
            stacklevel=2,
        )
    return first


def pipelines_in(dataset: Any) -> list[Any]:
    if steps := part(dataset, "pipeline"):
        return [list(steps)]
    inner = part(dataset, "dataset")
    parts = (part(dataset, "datasets") or []) if inner is None else [inner]
    return [steps for one in parts for steps in pipelines_in(one)]


def steps_of(dataset: Any) -> list[Any]:
    """The steps of a built set's pipeline."""
    return list(getattr(getattr(innermost(dataset), "pipeline", None), "transforms", None) or ())


def metainfo_of(config: Config) -> dict[str, Any]:
    """What the test set is about, such as its classes: what its type says, and its settings."""
    dataset = innermost(data_of(config))
    named, told = part(dataset, "type"), part(dataset, "metainfo")
    made = DATASETS.get(named) if isinstance(named, str) else named
    # mmengine's own function also reads the files that settings may name.
    load = getattr(made, "_load_metainfo", None)
    return dict(load(told) if load else told or {})


def dynamic_keys(settings: Any, key: str) -> list[str]:
    """Where a config's model has the settings of dynamic convolutions, if that is named `key`."""
    if not isinstance(settings, Mapping):
        return []
    if "dynamic" in settings or str(settings.get("type", "")).startswith("VaRed"):
        return [f"{key}.dynamic"]
    return [k for name, one in settings.items() for k in dynamic_keys(one, f"{key}.{name}")]


def named_missing(config: Config, error: FileNotFoundError) -> FileNotFoundError | None:
    """The error, with those settings of the config that name the file; None where none does."""
    keys = list(keys_of(config.to_dict(), error.filename)) if error.filename else []
    if not keys:
        return None
    return FileNotFoundError(f"{error}, which the config names in {', '.join(keys)}")


def keys_of(settings: Any, file: str, key: str = "") -> Iterator[str]:
    """Of which a config's value is this file, maybe without the folder in front of it.

    Variables outside its dicts are left out: to set one changes nothing that was made of it.
    """
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from keys_of(value, file, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, (list, tuple)):
        for number, value in enumerate(settings):
            yield from keys_of(value, file, f"{key}.{number}")
    elif isinstance(settings, str) and settings and "." in key:
        parts = Path(settings).parts
        if Path(file).parts[-len(parts) :] == parts:
            yield key
