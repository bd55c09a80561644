"""What a recorded pass consists of: steps on tensors that are known by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.kernels.functions import Function
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
        self.function, self.values, self.places, self._kept = function, values, places, kept
        self.reads = [number for _, number, _ in places]
        self.does = function.call, places

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        values = self.values.copy()
        for slot, number, offset in self.places:
            values[slot] = tensors[number].data_ptr() + offset
        if (threads := self.function.threads) is not None:
            values[threads] = torch.get_num_threads()
        self.function.call(*values)


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


def is_view(value: Any) -> bool:
    return type(value) is View


def viewed(value: Any, tensors: dict[int, Tensor]) -> Any:
    """The same with tensors in the place of views."""
    if type(value) is View:
        return value.of(tensors)
    return tree_map_only(View, lambda view: view.of(tensors), value)
