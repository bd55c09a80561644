"""A folder that nobody but its owner writes into: what lies there may be loaded as code."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def own_folder(folder: Path) -> Path:
    """The folder, made for this user alone if it is not there.

    Raises:
        PermissionError: Others can write into it, or put another folder in its place.
    """
    folder = folder.absolute()
    for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder = folder.resolve()
    if not is_own(folder):
        raise PermissionError(
            f"{folder} belongs to somebody else or others may write into it, and code is loaded "
            f"from there. Remove it, and it is made anew for you alone"
        )
    for parent in folder.parents:
        if _anybody_renames_in(parent):
            raise PermissionError(
                f"anybody may write into {parent}, and could put a folder of their own in the "
                f"place of {folder}. Take that right away (chmod o-w), or name another folder"
            )
    return folder


def is_own(path: Path) -> bool:
    """Whether it is this user's, no link, and nobody else may write there."""
    if os.name != "posix":
        return True
    found = path.lstat()
    link = stat.S_ISLNK(found.st_mode)
    return found.st_uid == os.geteuid() and not link and not found.st_mode & OTHERS_WRITE


def _anybody_renames_in(folder: Path) -> bool:
    """As in a folder that all may write, without the bit that keeps what is others' from them."""
    mode = folder.stat().st_mode
    return os.name == "posix" and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
