"""What a recorded pass consists of: steps on tensors that are known by number, and choices between
them, as a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.kernels.functions import Function
from vared_mm.kernels.series import Series, Told, serves
from vared_mm.method.layer import Pattern, group_by_pattern

# Told wherever memory is asked for, whatever the default is.
CPU = torch.device("cpu")
LINE = 64
# The samples that opened each pattern.
Groups = dict[Pattern, Sequence[int]]
Decision = tuple[Tensor, Groups]


class Asked(Protocol):
    """Who decides how to go on, a dynamic convolution."""

    def decide_now(self, x: Tensor, before: Decision | None = None) -> Decision:
        """The answer of a gate, and the samples that opened each pattern; before it another had
        decided so."""

    def answer_each(self, x: Tensor, gates: Tensor, groups: Groups, other: Tensor | None) -> Tensor:
        """What it makes of samples that were decided on differently."""


class Layout(NamedTuple):
    """How a tensor lies in its memory, and where."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    place: int

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        return cls(x.shape, x.stride(), x.dtype, int(x.storage_offset()), x.data_ptr())


class View:
    """A tensor in the memory of tensor `number` of a pass."""

    def __init__(self, number: int, whole: Layout, own: Layout) -> None:
        self.number, self.size, self.stride = number, own.size, own.stride
        self.offset = own.offset - whole.offset
        self.is_whole = own[:4] == whole[:4]

    def of(self, tensors: dict[int, Tensor]) -> Tensor:
        x = tensors[self.number]
        if self.is_whole:
            return x
        return x.as_strided(self.size, self.stride, x.storage_offset() + self.offset)


class Step:
    """Something that is done, and which tensors it reads; some of them nobody reads after it."""

    reads: Sequence[int] = ()
    last: Sequence[int] = ()
    # What it is, to be compared.
    does: Any = None

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        raise NotImplementedError


class Make(Step):
    """New memory."""

    def __init__(self, number: int, like: Layout) -> None:
        self.number, self.like = number, like
        self.does = number, like[:4]
        # In whole lines of the cache.
        reach = sum((n - 1) * stride for n, stride in zip(like.size, like.stride, strict=True))
        size = (reach + 1) * like.dtype.itemsize if all(like.size) else 0
        self.bytes = -(-size // LINE) * LINE

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        size, stride, dtype, _, _ = self.like
        tensors[self.number] = torch.empty_strided(size, stride, dtype=dtype, device=CPU)


class Call(Step):
    """A kernel of ours, told where tensors are, from so many bytes on."""

    def __init__(
        self,
        function: Function,
        values: list[Any],
        places: Sequence[tuple[int, int, int]],
        kept: Sequence[Tensor],
    ) -> None:
        self.function, self.run, self.threads = function, function.call, function.threads
        self.values, self.places, self._kept = values, places, kept
        self.reads = [number for _, number, _ in places]
        self.does = self.run, places

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        values = self.values.copy()
        for slot, number, offset in self.places:
            values[slot] = tensors[number].data_ptr() + offset
        if self.threads is not None:
            values[self.threads] = torch.get_num_threads()
        self.run(*values)


class Together(Step):
    """Kernels that follow each other, in one call, and the memory that is made for them.

    What they alone read and write is not a tensor: it lies in memory that is made for all of it,
    where what nobody reads any more was before.
    """

    def __init__(self, steps: Sequence[Make | Call]) -> None:
        ends = {number: i for i, step in enumerate(steps) for number in step.last}
        made = {s.number: (i, s) for i, s in enumerate(steps) if isinstance(s, Make)}
        own = {n: (i, ends[n], s.bytes) for n, (i, s) in made.items() if n in ends}
        offsets, self._bytes = packed_into(own)
        self._makes = [step for number, (_, step) in made.items() if number not in own]
        calls = [step for step in steps if isinstance(step, Call)]
        reads = dict.fromkeys(n for call in calls for n in call.reads if n not in own)
        bases = {number: 1 + i for i, number in enumerate(reads)}
        told = []
        for call in calls:
            places = [
                (slot, bases.get(number, 0), offsets.get(number, 0) + offset)
                for slot, number, offset in call.places
            ]
            told.append(Told(call.function, call.values, places))
        self._series, self._calls = Series(told), calls
        self.reads = list(reads)
        self.last = [number for number in ends if number not in own]

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        for make in self._makes:
            make(tensors)
        memory = torch.empty(self._bytes, dtype=torch.uint8, device=CPU)
        bases = [memory.data_ptr(), *[tensors[number].data_ptr() for number in self.reads]]
        self._series(bases, torch.get_num_threads())


def packed_into(own: dict[int, tuple[int, int, int]]) -> tuple[dict[int, int], int]:
    """Offsets into one memory for what is there from one step to another and has so many bytes, and
    how many there are in all: each at the first place that is free for as long."""
    offsets: dict[int, int] = {}
    for number, (first, last, size) in own.items():
        taken = sorted(
            (offsets[other], own[other][2])
            for other in offsets
            if own[other][0] <= last and first <= own[other][1]
        )
        at = 0
        for begin, length in taken:
            if at + size <= begin:
                break
            at = max(at, begin + length)
        offsets[number] = at
    return offsets, max((offsets[n] + size for n, (_, _, size) in own.items()), default=0)


def together(steps: Sequence[Step]) -> list[Step]:
    """The same, with kernels that follow each other in one call."""
    result: list[Step] = []
    row: list[Make | Call] = []

    def end() -> None:
        calls = sum(isinstance(step, Call) for step in row)
        result.extend([Together(row)] if calls > 1 else row)
        row.clear()

    for step in steps:
        if isinstance(step, Make) or (isinstance(step, Call) and serves(step.function)):
            row.append(step)
        else:
            end()
            result.append(step)
    end()
    return result


class Operate(Step):
    """An operation of torch; views, and lists of them, stand for tensors of the pass."""

    def __init__(
        self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any], makes: Sequence[int]
    ) -> None:
        self.operation, self.args, self.kwargs, self.makes = operation, args, kwargs, makes
        self.views = [i for i, v in enumerate(args) if any(is_view(w) for w in tree_leaves(v))]
        self.reads = [v.number for v in tree_leaves(args) if is_view(v)]
        self.does = operation, self.reads, makes

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        args = [*self.args]
        for i in self.views:
            args[i] = viewed(args[i], tensors)
        answer = self.operation(*args, **self.kwargs)
        several = answer if isinstance(answer, (tuple, list)) else (answer,)
        for number, one in zip(self.makes, several):  # noqa: B905  (None where nothing is new)
            tensors[number] = one


class AnswerEach(Step):
    """What a convolution makes of samples that chose differently, each time otherwise."""

    def __init__(
        self, asked: Asked, maps: View, gates: View, other: View | None, number: int
    ) -> None:
        self.asked, self.maps, self.gates, self.other = asked, maps, gates, other
        self.number = number
        self.reads = [view.number for view in (maps, gates, other) if view is not None]
        self.does = asked, self.reads, number

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        gates = self.gates.of(tensors)
        other = None if self.other is None else self.other.of(tensors)
        groups = group_by_pattern(gates.tolist())
        x = self.maps.of(tensors)
        tensors[self.number] = self.asked.answer_each(x, gates, groups, other)


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


def is_view(value: Any) -> bool:
    return type(value) is View


def viewed(value: Any, tensors: dict[int, Tensor]) -> Any:
    """The same with tensors in the place of views."""
    if type(value) is View:
        return value.of(tensors)
    return tree_map_only(View, lambda view: view.of(tensors), value)


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
