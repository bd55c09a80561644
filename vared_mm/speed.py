"""Clips per second of several models on the same inputs, measured in turn in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Name = TypeVar("Name")


@dataclass(frozen=True)
class Speed:
    """Clips per second: the median over the repeats, and their quartiles."""

    median: float
    low: float
    high: float


def interleaved(
    runs: dict[Name, Callable[[], object]], clips: int, repeats: int, warm_up: int = 1
) -> dict[Name, Speed]:
    """Times each of `runs`, which handles `clips` clips, once per round, after `warm_up` calls.

    Whatever else the machine does then falls on all of them alike, and what another one left in
    the caches and threads on the calls that are not timed.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            for _ in range(warm_up):
                run()
            wait_for_device()
            start = time.perf_counter()
            run()
            wait_for_device()
            seconds[name].append(time.perf_counter() - start)
    return {name: speed_of(times, clips) for name, times in seconds.items()}


def speed_of(seconds: Sequence[float], clips: int) -> Speed:
    rates = clips / np.array(seconds)
    low, median, high = np.percentile(rates, [25, 50, 75])
    return Speed(float(median), float(low), float(high))


def wait_for_device() -> None:
    """Until a GPU, which answers before it is done, is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
