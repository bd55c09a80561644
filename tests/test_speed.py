"""Clips per second by hand, in turn."""

from functools import partial

import pytest

from vared_mm.speed import in_turn, interleaved, speed_of


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
    turns = [seen[i : i + 5] for i in range(0, 30, 5)]
    assert all(turn == [turn[0], turn[0], "clock", turn[0], "clock"] for turn in turns)
    assert [{turn[0] for turn in turns[i : i + 2]} for i in (0, 2, 4)] == [{"a", "b"}] * 3
    # 6 clips in 2 ticks, the timed call's and the second look at the clock.
    assert {name: speed.median for name, speed in speeds.items()} == {"a": 3.0, "b": 3.0}


def test_the_order_of_each_round_is_drawn_anew_and_the_same_in_each_run():
    def orders() -> list[str]:
        seen: list[str] = []
        in_turn({name: lambda name=name: seen.append(name) or 1.0 for name in "abc"}, 1, range(6))
        return ["".join(seen[i : i + 3]) for i in range(0, 18, 3)]

    once = orders()
    assert {"".join(sorted(order)) for order in once} == {"abc"}
    assert len(set(once)) > 2
    assert orders() == once
