"""What a cure is: a fault of an installed package, how to see it, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
