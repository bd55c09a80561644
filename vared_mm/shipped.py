"""Where our configs, command lines and the trained network are, as OpenMMLab's `mim` looks for
them."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """The folder of our "configs" or "tools": inside the package when it was installed from a
    wheel, beside it in a checkout."""
    inside = _PACKAGE / ".mim" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


# Of the trained network that comes along.
CONFIG = shipped("configs") / "demo" / "vared_i3d_motion.py"
TRAINED = shipped("configs") / "demo" / "trained" / "vared_i3d_motion.pth"


def here_or_shipped(file: str) -> Path:
    """`configs/...` or `tools/...` of the folder that we are in, or else our own."""
    kind = Path(file).parts[0] if file else ""
    own = shipped(kind).parent / file
    is_ours = kind in ("configs", "tools") and own.is_file() and not Path(file).is_file()
    return own if is_ours else Path(file)
