"""Generated data sets are made once: whole or not at all, and kept for the next call."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vared_mm.files import write_bytes


def make_once(out: Path, what: str, config: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Fills the folder `out` by `write`, unless the same set is there already.

    The folder appears under its name only when complete, with `config` as `<what>.json` in it.

    Args:
        what: The data set's name in the plural, as messages tell it, like "motion clips".
        config: What identifies it; JSON.

    Raises:
        FileExistsError: if `out` holds something else, or the set of another config.
    """
    if _is_complete(out, what, config):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        partial = Path(temporary, "set")
        partial.mkdir()
        write(partial)
        done_file(partial, what).write_text(json.dumps(config))
        try:
            os.replace(partial, out)
        except OSError:
            # Another process may have finished the same set in the meantime.
            if not _is_complete(out, what, config):
                raise
    return out


def done_file(folder: Path, what: str) -> Path:
    return folder / f"{what.replace(' ', '_')}.json"


def _is_complete(out: Path, what: str, config: dict[str, Any]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    done = done_file(out, what)
    if not done.is_file():
        raise FileExistsError(f"{out} exists and is no set of {what}: choose another folder")
    try:
        found = json.loads(done.read_text())
    except ValueError:
        raise FileExistsError(
            f"{done} is damaged, so that nobody knows what {out} holds: remove that folder"
        ) from None
    if found != config:
        raise FileExistsError(
            f"{out} holds {what} made with {found}, asked for were {config}: "
            "remove it or choose another folder"
        )
    return True


def write_image(path: Path, image: np.ndarray) -> None:
    """Grey or BGR, in the format of the suffix; OpenCV alone would pass over a full disk."""
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())
