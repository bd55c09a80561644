"""Where our configs and command lines are, as OpenMMLab's `mim` looks for them."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """The folder of our "configs" or "tools": inside the package when it was installed from a
    wheel, beside it in a checkout."""
    inside = _PACKAGE / ".mim" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def command_file(tool: str) -> Path:
    """`tools/x.py` of the folder that we are in, or else our own."""
    return (
        Path(tool) if Path(tool).is_file() else shipped("tools") / Path(tool).relative_to("tools")
    )
