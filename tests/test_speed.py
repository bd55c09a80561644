"""Clips per second by hand, in turn."""

import time
from functools import partial

import pytest

from vared_mm.speed import interleaved, speed_of


def test_median_and_quartiles_of_known_times():
    speed = speed_of([0.5, 1.0, 2.0, 4.0, 8.0], clips=8)
    assert (speed.low, speed.median, speed.high) == pytest.approx((2.0, 4.0, 8.0))


def test_runs_take_turns_each_after_calls_that_are_not_timed():
    order: list[str] = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    speeds = interleaved(runs, clips=1, repeats=3, warm_up=2)
    assert order == ["a", "a", "a", "b", "b", "b"] * 3
    assert set(speeds) == {"a", "b"}


def test_what_a_run_does_first_after_another_one_is_not_timed():
    last: list[str] = []

    def run(name: str) -> None:
        if last[-1:] != [name]:
            time.sleep(0.05)
        last.append(name)

    speeds = interleaved({name: partial(run, name) for name in "ab"}, clips=1, repeats=3)
    assert min(speed.low for speed in speeds.values()) > 1 / 0.04
