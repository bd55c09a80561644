"""Sides of a comparison in processes of their own, of which one runs at a time.

Threads of an engine spin on after a call, and in one process they slow whoever comes next. Here all
processes but the one that is timed are stopped.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from vared_mm.speed import timed

Side = TypeVar("Side", bound=Hashable)
# The sides of one process; what it enters there lasts as long as that.
Job = Callable[[ExitStack], dict[Side, Callable]]
PR_SET_PDEATHSIG = 1
GRACE = 5  # seconds in which a process may end by itself, and take what it shares with it


class WorkerError(RuntimeError):
    """A process ended without an answer."""


@contextmanager
def clocks_of(
    jobs: Mapping[str, Job[Side]], warm_up: int, apart: bool = True
) -> Iterator[dict[Side, Callable[[], float]]]:
    """For each side what tells the seconds of a call after `warm_up` others, as `in_turn` wants it.

    Args:
        jobs: by name, what makes the sides of one process; they have to be picklable.
        apart: Each in a process of its own, and not all in this one.

    Raises:
        WorkerError: if a process ends by itself; and what a job or a side raises.
    """
    with ExitStack() as stack:
        if not apart:
            runs = [side for job in jobs.values() for side in job(stack).items()]
            yield {side: partial(timed, run, warm_up) for side, run in runs}
            return
        clocks: dict[Side, Callable[[], float]] = {}
        for worker in [stack.enter_context(_Worker(name)) for name in jobs]:
            for side in worker.start(jobs[worker.name], warm_up):
                clocks[side] = partial(worker.ask, side)
        yield clocks


class _Worker:
    """A process that runs while it is asked, and is stopped otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.pipe, self.its_pipe = context.Pipe()
        self.process = context.Process(target=serve, args=(self.its_pipe,))

    def __enter__(self) -> _Worker:
        with without_interrupts():
            self.process.start()
        self.its_pipe.close()
        return self

    def __exit__(self, *error: object) -> None:
        self.pipe.close()
        self.wake()
        self.process.join(GRACE)
        self.process.kill()
        self.process.join()

    def start(self, job: Job[Side], warm_up: int) -> list[Side]:
        # Packed here: as an argument of the process, tensors would need shared memory.
        try:
            packed = pickle.dumps((job, warm_up, torch.get_num_threads()))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"this network cannot be handed to another process ({error}); time one engine at "
                "a time, without --against"
            ) from error
        return self.ask(packed)

    def ask(self, what: Any) -> Any:
        self.wake()
        try:
            self.pipe.send(what)
            came = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise WorkerError(
                f"the process of {self.name} ended with exit code {self.process.exitcode}"
            ) from error
        if isinstance(came, Exception):
            raise came
        self.halt()
        return came

    # Windows has no such signals: there all sides go on spinning.
    def wake(self) -> None:
        if hasattr(signal, "SIGCONT") and self.process.pid and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGCONT)

    def halt(self) -> None:
        if not hasattr(signal, "SIGSTOP") or not self.process.pid:
            return
        os.kill(self.process.pid, signal.SIGSTOP)
        if hasattr(os, "waitid"):
            # Until all its threads stand still, or it has ended.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A process that starts here gets no Ctrl-C: its parent does, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where it has to be started first, it would let them in again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection) -> None:
    """The process: makes its sides, then times the one that is asked for."""
    if sys.platform == "linux":
        # A stopped process would outlive a parent that is killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with ExitStack() as stack, torch.no_grad():
        try:
            job, warm_up, threads = pickle.loads(pipe.recv())
            torch.set_num_threads(threads)
            runs = job(stack)
            pipe.send(list(runs))
            while True:
                pipe.send(timed(runs[pipe.recv()], warm_up))
        except (EOFError, BrokenPipeError):
            # The parent has ended.
            return
        except Exception as error:
            pipe.send(sendable(error))


def sendable(error: Exception) -> Exception:
    """Itself, or what it says: some cannot be made again of what pickle keeps of them."""
    try:
        pickle.loads(pickle.dumps(error))
    # What its own class does to be made again may fail in any way.
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")
    return error
