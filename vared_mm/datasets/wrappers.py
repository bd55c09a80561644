"""Data sets within others: mmengine's and torch's wrappers, built or as settings, in any depth."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from mmengine.dataset import Compose

from vared_mm.settings import within


def info_of(dataset: Any, sample: int) -> Mapping[str, Any]:
    """What the data set tells of a sample, also through torch's own wrappers."""
    if hasattr(dataset, "get_data_info"):
        return dataset.get_data_info(sample)
    if hasattr(dataset, "cumulative_sizes"):
        part = bisect_right(dataset.cumulative_sizes, sample)
        before = dataset.cumulative_sizes[part - 1] if part else 0
        return info_of(dataset.datasets[part], sample - before)
    return info_of(dataset.dataset, dataset.indices[sample])


def with_pipeline(settings: Mapping[str, Any], pipeline: list[Any]) -> dict[str, Any]:
    """The settings, whose data sets inside of wrappers have this pipeline."""
    copied = copy.deepcopy(dict(settings))
    for part in within(copied):
        if not isinstance(part, dict):
            give_pipeline(part, pipeline)
        else:
            part["pipeline"] = copy.deepcopy(pipeline)
    return copied


def give_pipeline(dataset: Any, pipeline: list[Any]) -> None:
    """To the data sets, built already, which have none; refuses those that have one."""
    for part in within(dataset):
        if getattr(getattr(part, "pipeline", None), "transforms", None):
            raise ValueError(
                f"pipeline= was given for a {type(part).__name__} that is built with a pipeline of "
                "its own; give its settings in place of the data set, or leave pipeline= out"
            )
        part.pipeline = Compose(pipeline)
