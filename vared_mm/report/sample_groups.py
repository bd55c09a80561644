"""The samples of each class, and which of them computed most and least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np


@dataclass(frozen=True)
class Group:
    """Samples that are looked at together: those of a class, by their places in the data set."""

    name: str
    places: np.ndarray


def groups_of(
    labels: np.ndarray, classes: Sequence[str] | None, wanted: int | Sequence[str] | None = None
) -> list[Group]:
    """The samples of each class; all of them in one group where none has a label.

    Args:
        labels: (N,), -1 where there is none.
        classes: Their names; None numbers them.
        wanted: Names, in the order wanted, or how many of the first; None for all.

    Raises:
        ValueError: There is no such class, or there are no labels to ask for.
    """
    if (labels < 0).all():
        if isinstance(wanted, Sequence):
            raise ValueError(
                f"classes {list(wanted)} are wanted, but no sample has a label; leave --classes out"
            )
        return [Group("all samples", np.arange(len(labels)))]
    names = list(classes or (f"class {i}" for i in range(labels.max() + 1)))
    if isinstance(wanted, Sequence):
        chosen = [label_of(name, names) for name in wanted]
    else:
        chosen = list(range(len(names)))[:wanted]
    return [Group(names[i], np.flatnonzero(labels == i)) for i in chosen]


def label_of(name: str, names: Sequence[str]) -> int:
    if name in names:
        return names.index(name)
    near = ", ".join(map(repr, get_close_matches(name, names, n=3) or names[:3]))
    raise ValueError(f"there is no class {name!r} among the {len(names)}; there is {near}")


def extremes(share: np.ndarray, group: Group) -> tuple[int, int]:
    """Places of the samples with the most and with the least computation, the first of equals."""
    if not len(group.places):
        raise ValueError(
            f"{group.name!r} has no sample among those evaluated; choose another class"
        )
    own = share[group.places]
    return int(group.places[own.argmax()]), int(group.places[own.argmin()])


def widest(share: np.ndarray, groups: Sequence[Group], count: int) -> list[Group]:
    """The groups whose most and least computation are furthest apart, the furthest first."""
    full = [group for group in groups if len(group.places)]
    return sorted(full, key=lambda group: -np.ptp(share[group.places]))[:count]
