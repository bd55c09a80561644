"""What command lines show while they work, and how they end where something is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")
# Seconds between two lines where no terminal is.
EVERY = 60.0


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Hands the items through and shows how many of `total` are done, on the error output.

    On a terminal that is a bar. Elsewhere, in a file or a pipe, it is a line at the start, one each
    minute and one at the end.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, what, total=total, console=console)
        return
    start = told = time.monotonic()
    done = 0
    _say(f"{what}: {total} to do")
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told > EVERY:
            told = time.monotonic()
            _say(f"{what}: {done} of {total}")
    _say(f"{what}: {done} of {total} done in {time.monotonic() - start:.0f} s")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def ending_in_a_line() -> Iterator[None]:
    """Ends the program with an error's text alone, where its user can cause that error.

    Names of files that are no UTF-8 are shown with escapes, which print() would refuse.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
