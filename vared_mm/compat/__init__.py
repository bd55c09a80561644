"""Cures for faults of the installed OpenMMLab packages, each active only where its fault is."""

from __future__ import annotations

from . import (
    checkpoint_parts,
    compiled_operators,
    config_scope,
    data_sets,
    installed_packages,
    label_files,
    localizer_drn,
    named_steps,
    numpy2,
    recompute,
    safe_checkpoints,
    scopes,
    video_lists,
)
from .config_scope import config_path
from .cure import Cure, CureStatus

CURES: tuple[Cure, ...] = (
    compiled_operators.CURE,
    localizer_drn.CURE,
    safe_checkpoints.CURE,
    checkpoint_parts.CURE,
    installed_packages.CURE,
    recompute.CURE,
    numpy2.NAMES,
    numpy2.HUE,
    label_files.CURE,
    data_sets.CURE,
    named_steps.CURE,
    video_lists.CURE,
)

_active: set[str] = set()


def apply() -> None:
    """Apply each cure whose fault is present. Calling it again changes nothing."""
    config_scope.apply()
    for cure in CURES:
        if cure.name not in _active and cure.is_needed():
            cure.apply()
            _active.add(cure.name)


def status() -> list[CureStatus]:
    """How each cure stands in this process."""
    return [
        CureStatus(cure.name, cure.reason, cure.is_needed(), cure.name in _active) for cure in CURES
    ]


__all__ = ["CURES", "Cure", "CureStatus", "apply", "config_path", "scopes", "status"]
