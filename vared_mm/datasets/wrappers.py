"""Data sets within others: mmengine's and torch's wrappers, built or as settings, in any depth."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dataset import Compose


def info_of(dataset: Any, sample: int) -> Mapping[str, Any]:
    """What the data set tells of a sample, also through torch's own wrappers."""
    if hasattr(dataset, "get_data_info"):
        return dataset.get_data_info(sample)
    if hasattr(dataset, "cumulative_sizes"):
        part = bisect_right(dataset.cumulative_sizes, sample)
        before = dataset.cumulative_sizes[part - 1] if part else 0
        return info_of(dataset.datasets[part], sample - before)
    return info_of(dataset.dataset, dataset.indices[sample])


def innermost(dataset: Any) -> Iterator[Any]:
    """The data sets, or their settings, in any wrappers around them."""
    held = dataset if isinstance(dataset, Mapping) else getattr(dataset, "__dict__", {})
    parts = held.get("datasets") or [held.get("dataset")]
    parts = [p for p in parts if hasattr(p, "__getitem__") and not isinstance(p, str)]
    if not parts:
        yield dataset
        return
    for part in parts:
        yield from innermost(part)


def with_pipeline(settings: Mapping[str, Any], pipeline: list[Any]) -> dict[str, Any]:
    """The settings, whose data sets inside of wrappers have this pipeline."""
    copied = copy.deepcopy(dict(settings))
    for part in innermost(copied):
        if not isinstance(part, dict):
            give_pipeline(part, pipeline)
        else:
            part["pipeline"] = copy.deepcopy(pipeline)
    return copied


def give_pipeline(dataset: Any, pipeline: list[Any]) -> None:
    """To the data sets, built already, which have none; refuses those that have one."""
    for part in innermost(dataset):
        if getattr(getattr(part, "pipeline", None), "transforms", None):
            raise ValueError(
                f"pipeline= was given for a {type(part).__name__} that is built with a pipeline of "
                "its own; give its settings in place of the data set, or leave pipeline= out"
            )
        part.pipeline = Compose(pipeline)
