"""The files in a folder that somebody put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

# Beside names that begin with a dot.
OF_SYSTEMS = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "lost+found"}


def is_hidden(path: PurePath) -> bool:
    """Whether the path, or a folder of it, is one that systems add and nobody asked for."""
    return any(part.startswith(".") or part in OF_SYSTEMS for part in path.parts)


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder, relative to it, in a fixed order.

    Links are followed, each folder is visited once, under its own name before that of a link.

    Raises:
        OSError: There is no such folder, or one in it may not be read.
    """
    seen: set[tuple[int, int]] = set()
    starts = [str(folder)]
    while starts:
        links: list[str] = []
        for start in starts:
            for parent, folders, names in os.walk(start, onerror=_refuse):
                found = os.stat(parent)
                if (found.st_dev, found.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((found.st_dev, found.st_ino))
                folders[:] = sorted(name for name in folders if not is_hidden(PurePath(name)))
                paths = [os.path.join(parent, name) for name in folders]
                links.extend(filter(os.path.islink, paths))
                for name in sorted(names):
                    if not is_hidden(PurePath(name)):
                        yield Path(parent, name).relative_to(folder)
        starts = links


def _refuse(error: OSError) -> None:
    raise error
