"""What command lines show while they work: how far they are, and what their user needs to know."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from mmengine.runner import Runner
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


# How messages begin that the log file alone needs.
FOR_THE_FILE = (
    "------------------------------------------------------------\nSystem environment:",
    "Config:",
    "Hooks will be executed in the following order:",
    "Distributed training is not used, all SyncBatchNorm",
    "paramwise_options -- ",
    "Exp name:",
    "The prefix is not set in metric class",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# How warnings of the toolboxes begin that tell of their own code, as regular expressions.
OF_NO_USE = ("``build_loss`` would be deprecated",)


def quiet(logger: logging.Logger) -> logging.Logger:
    """The logger, on whose screen stands only what a user needs; its file has everything."""
    for beginning in OF_NO_USE:
        warnings.filterwarnings("ignore", message=beginning)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.addFilter(is_for_the_screen)
            if sys.stdout.isatty():
                handler.stream = _Screen()
    return logger


def is_for_the_screen(record: logging.LogRecord) -> bool:
    return not record.getMessage().strip().startswith(FOR_THE_FILE)


class _Screen:
    """Where print() goes, which a progress bar has written above itself while it is there."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class QuietRunner(Runner):
    """mmengine's Runner with a `quiet` logger, which tells first where the rest is."""

    def build_logger(self, *args: Any, **settings: Any) -> Any:
        logger = quiet(super().build_logger(*args, **settings))
        logger.info(f"versions, config and all messages are in {self.log_dir}")
        return logger
