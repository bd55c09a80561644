"""What a cure is: a fault of an installed package, how to see it, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Cure:
    """One fault of the installed packages and what mends it while this process runs.

    `is_needed` looks for the fault itself and gives the same answer before and after `apply`.
    `apply` changes nothing on disk and imports no toolbox that is not imported yet.
    """

    name: str
    reason: str
    is_needed: Callable[[], bool]
    apply: Callable[[], None]


@dataclass(frozen=True)
class CureStatus:
    """A cure as it stands in this process."""

    name: str
    reason: str
    present: bool
    """Whether the fault is in the packages installed here."""
    active: bool
    """Whether the cure was applied; a cure is never applied where its fault is absent."""


def installed_source(module: str) -> str:
    """The text of an installed module, read without importing it; empty where there is none."""
    package, *parts = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return ""
    file = Path(spec.submodule_search_locations[0], *parts).with_suffix(".py")
    return file.read_text() if file.is_file() else ""
