"""Clips per second of several models on the same inputs, measured in turn in one run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    runs: Mapping[Name, Callable[[], object]], clips: int, repeats: int, warm_up: int = 1
) -> dict[Name, Speed]:
    """Times each of `runs`, which handles `clips` clips, once per round, after `warm_up` calls.

    Whatever else the machine does then falls on all of them alike, and what another one left in
    the caches on the calls that are not timed.
    """
    clocks = {name: partial(timed, run, warm_up) for name, run in runs.items()}
    return in_turn(clocks, clips, range(repeats))


def in_turn(
    clocks: Mapping[Name, Callable[[], float]], clips: int, rounds: Iterable[object]
) -> dict[Name, Speed]:
    """Asks each of `clocks` for the seconds of a call in each round, in an order drawn anew."""
    seconds: dict[Name, list[float]] = {name: [] for name in clocks}
    order, draw = list(clocks), random.Random(0)
    for _ in rounds:
        draw.shuffle(order)
        for name in order:
            seconds[name].append(clocks[name]())
    return {name: speed_of(times, clips) for name, times in seconds.items()}


def timed(run: Callable[[], object], warm_up: int) -> float:
    """Seconds of one call after `warm_up` others."""
    for _ in range(warm_up):
        run()
    wait_for_device()
    start = time.perf_counter()
    run()
    wait_for_device()
    return time.perf_counter() - start


def speed_of(seconds: Sequence[float], clips: int) -> Speed:
    rates = clips / np.array(seconds)
    low, median, high = np.percentile(rates, [25, 50, 75])
    return Speed(float(median), float(low), float(high))


def wait_for_device() -> None:
    """Until a GPU, which answers before it is done, is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
