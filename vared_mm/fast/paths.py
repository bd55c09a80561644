"""Recorded passes as a tree, whose branches are the choices: steps from one choice to the next."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from vared_mm.fast.steps import Asked, Groups, Step, View
from vared_mm.fast.together import together
from vared_mm.method.layer import Pattern


class Path:
    """What is done from a choice, or the beginning, to the next one, or the end."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        # The number of what a gate has answered then, and who is asked for it by which maps, where
        # that is not among the steps.
        self.gates: int | None = None
        self.asked: tuple[Asked, View] | None = None
        # By what all samples opened; by None where they chose differently.
        self.after: dict[Pattern | None, Path] = {}
        # Or what the pass answers with, views in the place of tensors.
        self.answer: Any = None

    @cached_property
    def quick(self) -> list[Step]:
        """The steps as they are made: once it is known what is read after them."""
        return together(self.steps)


def chosen(groups: Groups) -> Pattern | None:
    """What all samples opened; None where they chose differently."""
    return next(iter(groups)) if len(groups) == 1 else None


def joined(known: Path | None, new: Path) -> Path:
    """Both trees in one, where they begin alike; `new` has a single way through it.

    They do not where the one was recorded with what is done but once, as to compile a kernel.
    """
    if known is None or [s.does for s in known.steps] != [s.does for s in new.steps]:
        return new
    for ours, theirs in zip(new.steps, known.steps, strict=True):
        ours.last = [number for number in ours.last if number in theirs.last]
    for pattern, rest in known.after.items():
        new.after[pattern] = joined(rest, new.after[pattern]) if pattern in new.after else rest
    return new
