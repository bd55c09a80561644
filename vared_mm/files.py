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
