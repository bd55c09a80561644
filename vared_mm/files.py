"""Files that are either the old ones or the new ones, never half of the new."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes beside the target and renames, so that an interruption leaves the old file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(content)
    half.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """As `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """As `write_bytes`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


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
