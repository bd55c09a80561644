"""Folders of work that is done: what is whole is kept, and what is in use is not removed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vared_mm.files import write_bytes

LOCK = "in_use"
LENGTH = hashlib.sha256().digest_size


def write_whole(file: Path, content: bytes) -> None:
    write_bytes(file, hashlib.sha256(content).digest() + content)


def read_whole(file: Path) -> bytes | None:
    """None where it is missing or is not what was written."""
    try:
        held = file.read_bytes()
    except OSError:
        return None
    content = held[LENGTH:]
    return content if hashlib.sha256(content).digest() == held[:LENGTH] else None


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """As long as it lasts, `remove_others` of another process leaves the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_others(folder: Path) -> None:
    """The folders beside this one, unless a process uses them."""
    for other in folder.parent.iterdir():
        if other != folder and other.is_dir() and is_free(other):
            shutil.rmtree(other, ignore_errors=True)


def is_free(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
