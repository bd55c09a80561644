"""Cures for faults of the installed OpenMMLab packages, each active only where its fault is."""


def apply() -> None:
    pass
