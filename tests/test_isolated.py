"""Sides in processes of their own: none that waits slows another, none outlives the comparison."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from vared_mm.fast.engines import EngineError
from vared_mm.fast.isolated import WorkerError, clocks_of, serve


def quiet(hooks: ExitStack) -> dict:
    calls: list[str] = []

    def count() -> None:
        for _ in range(200_000):
            pass

    def fail() -> None:
        calls.append("called")
        if len(calls) == 4:
            raise EngineError(" ".join(calls))

    return {"quiet": count, "fails": fail}


def spinning(hooks: ExitStack) -> dict:
    """Threads that work on after `spin`, as those of an engine do for a while, and until `rest`."""
    busy = threading.Event()

    def work() -> None:
        while True:
            busy.wait()
            hashlib.sha256(bytes(2**20))

    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    return {"spin": busy.set, "rest": busy.clear, "ends": lambda: os._exit(3)}


@pytest.fixture(scope="module")
def clocks():
    with clocks_of({"engine X": quiet, "engine Y": spinning}, warm_up=1) as clocks:
        yield clocks
    assert multiprocessing.active_children() == []


def cpu_ticks(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_ctrl_c_is_for_the_parent_alone(clocks):
    blocked = [Path(f"/proc/{child.pid}/status").read_text().partition("SigBlk:")[2].split()[0]
               for child in multiprocessing.active_children()]  # fmt: skip
    assert [int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in blocked] == [1, 1]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_threads_that_spin_take_no_time_while_another_side_runs(clocks):
    mine, other = sorted(child.pid for child in multiprocessing.active_children())
    seconds: dict[str, list[float]] = {"rest": [], "spin": []}
    taken = 0
    for _ in range(9):
        for state, times in seconds.items():
            clocks[state]()
            before = cpu_ticks(other)
            times.append(clocks["quiet"]())
            taken += cpu_ticks(other) - before
    assert taken == 0
    assert cpu_ticks(mine) > 0
    alone, beside = (np.percentile(times, [25, 75]) for times in seconds.values())
    # By as much as others of the machine disturb either.
    assert alone[0] <= 1.5 * beside[1]
    assert beside[0] <= 1.5 * alone[1]


def test_what_a_side_raises_comes_back(clocks):
    assert clocks["fails"]() < 1
    with pytest.raises(EngineError, match="^called called called called$"):
        clocks["fails"]()


def test_the_end_of_a_process_is_told(clocks):
    with pytest.raises(WorkerError, match="process of engine Y ended with exit code 3"):
        clocks["ends"]()


class TwoPartsError(Exception):
    """As some of torch's: pickle would make it of its text alone."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def unfit(hooks: ExitStack) -> dict:
    raise TwoPartsError("cannot", "convert")


def test_an_error_that_cannot_come_whole_comes_as_its_text():
    with (
        pytest.raises(WorkerError, match="TwoPartsError: cannot convert"),
        clocks_of({"engine Z": unfit}, warm_up=0),
    ):
        pass


def test_a_process_whose_parent_has_gone_ends_without_a_word(monkeypatch):
    # The process of the tests itself shall not end with its parent.
    monkeypatch.setattr("vared_mm.fast.isolated.PR_SET_PDEATHSIG", 0)
    ours, its = multiprocessing.Pipe()
    ours.send(pickle.dumps((quiet, 0, torch.get_num_threads())))
    ours.close()
    assert serve(its) is None
