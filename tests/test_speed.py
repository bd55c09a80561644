"""Clips per second by hand, in turn."""

from functools import partial

import pytest

from vared_mm.speed import interleaved, speed_of


def test_median_and_quartiles_of_known_times():
    speed = speed_of([0.5, 1.0, 2.0, 4.0, 8.0], clips=8)
    assert (speed.low, speed.median, speed.high) == pytest.approx((2.0, 4.0, 8.0))


def test_runs_take_turns_and_what_each_does_first_is_not_timed(monkeypatch):
    seen: list[str] = []

    def clock() -> float:
        seen.append("clock")
        return float(len(seen))

    monkeypatch.setattr("vared_mm.speed.time.perf_counter", clock)
    runs = {name: partial(seen.append, name) for name in "ab"}
    speeds = interleaved(runs, clips=6, repeats=3, warm_up=2)
    assert seen == [step for name in "ab" for step in (name, name, "clock", name, "clock")] * 3
    # 6 clips in 2 ticks, the timed call's and the second look at the clock.
    assert {name: speed.median for name, speed in speeds.items()} == {"a": 3.0, "b": 3.0}
