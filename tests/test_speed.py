"""Clips per second by hand, in turn."""

import pytest

from vared_mm.speed import interleaved, speed_of


def test_median_and_quartiles_of_known_times():
    speed = speed_of([0.5, 1.0, 2.0, 4.0, 8.0], clips=8)
    assert (speed.low, speed.median, speed.high) == pytest.approx((2.0, 4.0, 8.0))


def test_runs_take_turns_and_the_first_rounds_warm_up():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    speeds = interleaved(runs, clips=1, repeats=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert set(speeds) == {"a", "b"}
