"""Files that are either the old ones or the new ones, never half of the new."""

from __future__ import annotations

import json
import math
import os
import re
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4


@contextmanager
def half_written(path: str | Path) -> Iterator[Path]:
    """A passing name beside `path`, whose file becomes `path` at the end.

    Nothing stays of what fails or is interrupted. A device or a pipe is written as it is.

    Raises:
        OSError: It cannot be written; the message names it.
    """
    whole = Path(path)
    if whole.exists() and not whole.is_file() and not whole.is_dir():
        yield whole
        return
    # A link stays one; the suffix tells OpenCV the format.
    whole = whole.resolve()
    half = whole.with_name(f".{uuid4().hex}{whole.suffix[:8]}")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        yield half
        half.replace(whole)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            half.unlink()


def remove_halves(folder: str | Path, suffix: str) -> None:
    """What writers that were killed left there, an hour ago or longer: others may be writing."""
    for half in Path(folder).glob(f".*{suffix}"):
        with suppress(OSError):
            is_old = time.time() - half.stat().st_mtime > 3600
            if is_old and re.fullmatch(r"\.[0-9a-f]{32}", half.stem):
                half.unlink()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes beside the target and renames, so that an interruption leaves the old file."""
    with half_written(path) as half:
        half.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """As `write_bytes`; names of files that are no UTF-8 become the bytes that they are."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_json(path: str | Path, content: Any) -> None:
    """As `write_bytes`. Numbers that are not finite, which JSON has not, become null."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, list | tuple) else content


@contextmanager
def plain_name(path: str | Path) -> Iterator[str]:
    """A name of the file that OpenCV, FFmpeg and pipelines understand, which may not be there yet.

    In a relative name they take a colon for a protocol's end, and none may hold bytes that are no
    UTF-8; to one without a suffix `DecordInit` adds .mp4.
    """
    whole = os.path.abspath(path)
    suffix = os.path.splitext(whole)[1]
    if whole.isprintable() and suffix:
        yield whole
        return
    with TemporaryDirectory() as folder:
        link = Path(folder, f"link{suffix or '.mp4'}")
        link.symlink_to(whole)
        yield str(link)


def read_names(path: str | Path) -> list[str]:
    """Names, one a line, as of classes, whichever editor wrote them.

    Raises:
        ValueError: The file cannot be read as UTF-8, holds no name, or has an empty line between
            two names, whose numbers would be others without it.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as names in UTF-8, one a line: {error}") from error
    names = [line.strip() for line in text.rstrip().split("\n")]
    if names == [""]:
        raise ValueError(f"{path} holds no name; wanted one a line")
    if "" in names:
        raise ValueError(f"line {names.index('') + 1} of {path} is empty; wanted a name a line")
    return names


def new_file(name: str) -> Path:
    """For argparse: a file that can be written, as far as can be told before the work."""
    if os.path.isdir(name):
        raise ArgumentTypeError(f"{name} is a folder; wanted the name of a file")
    return _writable(Path(name), os.path.dirname(os.path.abspath(name)))


def new_folder(name: str) -> Path:
    """For argparse: as `new_file`, a folder to write files into."""
    return _writable(Path(name), os.path.abspath(name))


def check_kept(read: Iterable[str | Path], written: str | Path | None) -> None:
    """Before the work: it replaces no file that it reads.

    Raises:
        ValueError: It would.
    """
    if written and os.path.realpath(written) in map(os.path.realpath, read):
        raise ValueError(
            f"{written} would be replaced, which is given to be read; name another file to write"
        )


def _writable(path: Path, folder: str) -> Path:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise ArgumentTypeError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{path} cannot be written: no right to write into {folder}")
    return path
