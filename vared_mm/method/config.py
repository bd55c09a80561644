"""The settings of what takes a convolution's place, checked when they are made.

Section numbers refer to VA-RED², ICLR 2021; equations are numbered in its order, as in
docs/method.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, ClassVar

from typing_extensions import Self

AXES = ("channel", "time")
SHARED_BY = ("conv", "block")
GATES = ("input", "fixed", "random")
POOLS = ("mean", "change")
SEARCH_SPACES = range(2, 5)


@dataclass(frozen=True)
class Targets:
    """Which convolutions of a model are exchanged.

    Args:
        targets: Regular expression that a convolution's full name in the model has to match
            (`re.fullmatch`).
        exclude: Full names of convolutions that stay plain though `targets` matches them.
    """

    # What a config calls these settings, and how the convolutions become by them.
    option: ClassVar[str]
    becomes: ClassVar[str]

    targets: str = r".*"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            exclude = names_in(self.exclude)
        except TypeError:
            raise ValueError(f"exclude={self.exclude!r} is no list; wanted names") from None
        object.__setattr__(self, "exclude", exclude)
        try:
            re.compile(self.targets)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"targets={self.targets!r} is not a regular expression: {error}"
            ) from error

    @classmethod
    def make(cls, settings: Self | Mapping[str, Any] | None) -> Self:
        """From what a config file holds: nothing, a mapping, or the finished settings."""
        if isinstance(settings, cls):
            return settings
        given: Any = {} if settings is None else settings
        if not isinstance(given, Mapping):
            raise ValueError(f"{cls.option} is {settings!r}; wanted a dict of settings")
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {known}"
                raise ValueError(f"{cls.option} has no setting {name!r}{hint}")
        return cls(**given)


def is_within(value: Any, low: float, high: float = math.inf) -> bool:
    """Whether it is a finite number, and no other than from `low` to `high`."""
    # numpy's are real ones too.
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and bool(low <= value <= high)


def is_whole(value: Any, low: int) -> bool:
    """Whether it is a whole number from `low` up."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low


def names_in(value: Any) -> tuple[str, ...]:
    """Config files write one name, or a list of them."""
    return (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True)
class DynamicConfig(Targets):
    """How the convolutions of a model become dynamic.

    Args:
        targets: Regular expression that the whole of a convolution's full name in the model has to
            match. With `share="block"` its group `(?P<block>...)` names the block.
        exclude: Full names of convolutions that stay plain, as their gates cost more time than they
            save, for example.
        search_space: S, the number of choices an axis has: 1, 1/2, ..., (1/2)^(S-1).
        axes: Which redundancy is reduced, of "channel" and "time". 2-D convolutions have no time.
        share: "conv" gives each convolution its own gate, "block" one gate to all convolutions of
            a block; it sees the input of the block's first convolution.
        cheap_kernel: Side of the depthwise kernels that rebuild what was left out; odd.
        gate_hidden: Width of the gate's hidden layer.
        gate: What decides: the "input" as in the paper, or against it a "fixed" policy, or paths
            that are drawn at "random".
        pool: What the gate sees of each channel: "mean" as in the paper, or with "change" also how
            much it changes from frame to frame (of images: from row to row).
        normalised: Whether the gates of an axis are divided by their sum, so that one open path is
            as wide as all of them, whatever its gate. Departs from the paper.
        gate_bias: Start of the gate's bias, one number per choice; the last one is repeated.
        floor: What the largest gate of an axis is opened at when all of them are closed.
        leak: Part of the gradient that passes a closed gate, so that it can open again.

    Raises:
        ValueError: A setting is none of what is told here.
    """

    option = "dynamic"
    becomes = "dynamic"

    search_space: int = 2
    axes: tuple[str, ...] = AXES
    share: str = "conv"
    cheap_kernel: int = 3
    gate_hidden: int = 16
    gate: str = "input"
    pool: str = "mean"
    normalised: bool = False
    gate_bias: tuple[float, ...] = (0.8, 0.3)
    floor: float = 1e-2
    leak: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            # Of a text each letter would be a number.
            bias = tuple(map(float, [] if isinstance(self.gate_bias, str) else self.gate_bias))
            axes = names_in(self.axes)
        except (TypeError, ValueError):
            raise ValueError(
                f"axes={self.axes!r} or gate_bias={self.gate_bias!r} is no list; wanted some of "
                f"{AXES}, and numbers like (0.8, 0.3)"
            ) from None
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "gate_bias", bias)
        if type(self.search_space) is not int or self.search_space not in SEARCH_SPACES:
            raise ValueError(
                f"search_space is {self.search_space!r}; wanted one of {list(SEARCH_SPACES)}, the "
                "number of choices of an axis: 1, 1/2, 1/4, ... of it"
            )
        if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(AXES):
            raise ValueError(f"axes is {axes!r}; wanted some of {AXES}, each once")
        for name, choices in (("share", SHARED_BY), ("gate", GATES), ("pool", POOLS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; wanted one of {choices}")
        if not isinstance(self.normalised, bool):
            raise ValueError(f"normalised is {self.normalised!r}; wanted True or False")
        if not is_whole(self.cheap_kernel, 1) or not self.cheap_kernel % 2:
            raise ValueError(
                f"cheap_kernel is {self.cheap_kernel!r}; wanted an odd number, like 1 or 3"
            )
        if not is_whole(self.gate_hidden, 1):
            raise ValueError(f"gate_hidden is {self.gate_hidden!r}; wanted a number like 16")
        if not 1 <= len(bias) <= self.search_space:
            raise ValueError(
                f"gate_bias has {len(bias)} numbers; wanted 1 to {self.search_space}, as "
                f"search_space is {self.search_space}"
            )
        if not all(map(math.isfinite, bias)):
            raise ValueError(f"gate_bias is {bias!r}; wanted finite numbers")
        if not is_within(self.floor, 0, 1) or self.floor in (0, 1):
            raise ValueError(f"floor is {self.floor!r}; wanted a number between 0 and 1")
        if not is_within(self.leak, 0):
            raise ValueError(f"leak is {self.leak!r}; wanted 0 or more")
        if self.share == "block" and "block" not in re.compile(self.targets).groupindex:
            raise ValueError(
                f"share='block' needs a group (?P<block>...) in targets that names the block of a "
                f"convolution, as in '(?P<block>layer\\d\\.\\d+)\\.conv\\d'; came {self.targets!r}"
            )

    @property
    def gate_start(self) -> tuple[float, ...]:
        """β at the start, one number per choice of an axis."""
        missing = self.search_space - len(self.gate_bias)
        return self.gate_bias + self.gate_bias[-1:] * missing
