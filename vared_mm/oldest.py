"""The oldest Python and torch that the code runs with.

The one place that says so for torch: as a requirement of the package it would let pip replace the
build that the user chose. Up to 2.9 exporters refuse batches of any size, and `torch.func` keeps a
gate's numbers to itself, so that gradients differ from those of `backward`.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version

PYTHON, TORCH = (3, 10), (2, 10)


def too_old() -> str | None:
    """What is older than it may be, and what would do; None where nothing is."""
    if sys.version_info[:2] < PYTHON:
        return f"vared_mm needs Python {_dotted(PYTHON)} or newer; this is {sys.version.split()[0]}"
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return None
    if tuple(map(int, re.findall(r"\d+", torch)[:2])) < TORCH:
        wanted = _dotted(TORCH)
        return f"vared_mm needs torch {wanted} or newer; this is {torch}: pip install -U torch"
    return None


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
