"""Command lines in parts that each have a limit of time, and what came of them, told as they end.

What is written is whole at any time, so that whoever stops the whole loses what runs alone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, NamedTuple

from vared_mm.files import write_json, write_text

Row = dict[str, Any]
LOG_KEPT = 100_000  # bytes of what a job prints, the last ones


class Job(NamedTuple):
    """Arguments of Python, of which each needs the ones before; JSON or other files they write, and
    what is known of each without reading it.
    """

    name: str
    commands: Sequence[Sequence[str]]
    results: dict[Path, Row]
    env: Mapping[str, str] = MappingProxyType({})


class Part(NamedTuple):
    """Jobs that may take `seconds` together.

    Args:
        read: Makes rows of a file and of what is known of it.
        gather: Makes the table's rows of all, as medians over seeds; without it they are the same.
    """

    name: str
    seconds: float
    jobs: Sequence[Job]
    read: Callable[[Path, Row], list[Row]]
    at_once: int = 1
    gather: Callable[[list[Row]], list[Row]] = list


class Outcome(NamedTuple):
    part: str
    seconds: float
    jobs: int
    rows: list[Row]
    failures: list[str]  # of jobs
    unfinished: list[str]  # for want of time
    gathered: Sequence[Row] = ()

    @property
    def state(self) -> str:
        if self.failures or not self.rows:
            return "failed"
        return "cut short" if self.unfinished else "done"


class LimitError(RuntimeError):
    """The time of a part was over."""


def run_parts(parts: Sequence[Part], seconds: float, out: Path, about: str) -> list[Outcome]:
    """One part after the other, in `seconds`; writes PART.json, summary.md and log.txt into `out`.

    Args:
        about: What the summary says of all rows, as the device.
    """
    end, log = time.monotonic() + seconds, b""
    ended: list[Outcome] = []
    for part in parts:
        last: Outcome | None = None
        for last, printed in run_part(part, min(end, time.monotonic() + part.seconds)):
            log += printed
            write_text(out / "log.txt", log.decode(errors="replace"))
            write_json(out / f"{part.name}.json", last._asdict())
            write_text(out / "summary.md", summary([*ended, last], about))
        ended += [last] if last else []
    return ended


def run_part(part: Part, end: float) -> Iterator[tuple[Outcome, bytes]]:
    """After every job what came of those so far, and what it printed."""
    begin = time.monotonic()
    outcome = Outcome(part.name, 0, len(part.jobs), [], [], [])
    running: list[subprocess.Popen] = []
    with ThreadPoolExecutor(part.at_once) as pool:
        asked = {pool.submit(run_job, job, end, running): job for job in part.jobs}
        try:
            for future in as_completed(asked):
                job, (error, printed) = asked[future], future.result()
                told = f"{job.name}: {error}"
                if isinstance(error, LimitError):
                    outcome.unfinished.append(told)
                elif error:
                    last = printed.decode(errors="replace").strip().rpartition("\n")[2]
                    outcome.failures.append(f"{told}: {last}")
                outcome.rows.extend(rows_of(part, job, outcome))
                outcome = outcome._replace(
                    seconds=round(time.monotonic() - begin, 1), gathered=part.gather(outcome.rows)
                )
                head = f"\n=== {part.name}, {told if error else job.name}\n"
                yield outcome, head.encode() + printed
        finally:
            # Of what runs side by side when this is interrupted.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                kill(process)


def rows_of(part: Part, job: Job, outcome: Outcome) -> list[Row]:
    """Of the files that are there; also a job that failed may have written some."""
    rows = []
    for file, known in job.results.items():
        try:
            rows += part.read(file, known) if file.exists() else []
        except (ValueError, KeyError, TypeError, SyntaxError) as error:
            outcome.failures.append(f"{job.name}: {file.name} cannot be read: {error!r}")
    return rows


def run_job(
    job: Job, end: float, running: list[subprocess.Popen]
) -> tuple[Exception | None, bytes]:  # fmt: skip
    """What went wrong, if anything did, and the end of what was printed."""
    error: Exception | None = None
    with TemporaryFile() as log:
        try:
            for command in job.commands:
                run_command(command, end, log, job.env, running)
        except (LimitError, OSError, ValueError) as raised:
            error = raised
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_KEPT))
        return error, log.read()


def run_command(
    command: Sequence[str], end: float, log: Any, env: Mapping[str, str],
    running: list[subprocess.Popen],
) -> None:  # fmt: skip
    if time.monotonic() >= end:
        raise LimitError("not begun, its part's time was over")
    log.write(f"$ python {shlex.join(command)}\n".encode())
    log.flush()
    process = subprocess.Popen(
        [sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **env},
        # A group of its own, so that what it starts ends with it.
        start_new_session=True,
    )  # fmt: skip
    running.append(process)
    try:
        code = process.wait(end - time.monotonic())
    except subprocess.TimeoutExpired:
        raise LimitError("stopped, its part's time was over") from None
    finally:
        kill(process)
        running.remove(process)
    if code:
        raise ValueError(f"python {' '.join(command)[:60]} ended with {code}")


def kill(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def summary(outcomes: Sequence[Outcome], about: str) -> str:
    """Markdown: a line for each part, then what went wrong, then the rows."""
    parts = [
        {"part": o.part, "state": o.state, "rows": len(o.rows), "jobs": o.jobs,
         "failed": len(o.failures), "cut short": len(o.unfinished), "seconds": o.seconds}
        for o in outcomes
    ]  # fmt: skip
    told = [f"# {about}", table(parts)]
    for o in outcomes:
        reasons = [f"- {reason}" for reason in (*o.failures, *o.unfinished)]
        told += [f"## {o.part}", *(["\n".join(reasons)] if reasons else [])]
        told += [table(o.gathered)] if o.gathered else ["No result."]
    return "\n\n".join(told) + "\n"


def table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return " to ".join(map(shown, value))
    return str(value).replace("|", "\\|")
