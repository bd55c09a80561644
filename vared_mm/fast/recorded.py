"""Passes that are recorded, and then made again without the Python that found out what to do.

A pass over maps of one size calls the same kernels and operations in the same order each time: what
the gates decide alone can change it. To ask modules, compare sizes and choose kernels takes a
quarter of a pass over small maps. What was recorded is a tree, whose branches are the choices.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.kernels.functions import Function, heard
from vared_mm.method.layer import Pattern, group_by_pattern

# The samples that opened each pattern.
Groups = dict[Pattern, Sequence[int]]
Decision = tuple[Tensor, Groups]
# Layouts of inputs that are remembered; and how many ways to choose for one of them.
LAYOUTS, WAYS = 16, 64
# What takes fewer bytes is kept to the end of a pass.
SMALL = 1 << 14
# Told wherever memory is asked for, whatever the default is.
CPU = torch.device("cpu")
aten = torch.ops.aten
MEMORY = {aten.empty, aten.empty_strided, aten.new_empty, aten.empty_like}
# What answers with plain memory, of sizes that follow from those of its inputs. A pass that does
# anything else is not repeated.
_ATEN = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _softmax _to_copy _unsafe_view adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d add add_ addcmul addmm alias amax as_strided avg_pool2d
avg_pool3d batch_norm bmm cat chunk clamp clone constant_pad_nd contiguous conv1d conv2d conv3d
convolution copy_ detach div dropout exp expand flatten gelu hardsigmoid hardswish hardtanh
layer_norm leaky_relu linear matmul max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices mean mish mm mul mul_ native_batch_norm native_dropout native_layer_norm
pad permute pow relu relu_ repeat reshape resolve_conj resolve_neg select sigmoid silu slice
softmax split squeeze stack sub sum t tanh to transpose unflatten unsqueeze upsample_bilinear2d
upsample_nearest2d upsample_nearest3d upsample_trilinear3d view
"""
KNOWN = {f"aten::{name}" for name in _ATEN.split()}
KNOWN |= {"mkldnn::_convolution_pointwise", "vared_mm::decide"}
AUTOCAST = torch.get_autocast_dtype
_here = threading.local()


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
        self.run, self.threads = function.call, function.threads
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


class Operate(Step):
    """An operation of torch; views, and lists of them, stand for tensors of the pass."""

    def __init__(
        self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any], makes: Sequence[int]
    ) -> None:
        self.operation, self.args, self.kwargs, self.makes = operation, args, kwargs, makes
        self.views = [i for i, v in enumerate(args) if any(_is_view(w) for w in tree_leaves(v))]
        self.reads = [v.number for v in tree_leaves(args) if _is_view(v)]
        self.does = operation, self.reads, makes

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        args = [*self.args]
        for i in self.views:
            args[i] = _viewed(args[i], tensors)
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


class Recorded:
    """`function` of tensors on a CPU, recorded where a pass is new and repeated where it is not.

    What it does may depend on sizes, strides and types, and on numbers by what gates decide. Where
    it does what cannot be repeated, or choices are too many, it is called as it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._first: dict[tuple, Path | None] = {}
        self._ways: dict[tuple, int] = {}

    def __call__(self, *inputs: Any, asks: bool = False) -> Any:
        """What `function` answers.

        Args:
            asks: Each gate is asked, and seen by its hooks, once in each pass; else the kernels are
                repeated by which it decides.
        """
        if not all(map(_is_plain, inputs)) or _is_transformed():
            return self.function(*inputs)
        # torch's own operations follow these modes.
        modes = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), AUTOCAST("cpu")
        key = (asks, modes, *[(x.shape, x.stride(), x.dtype) for x in inputs])
        path = self._first.get(key)
        if path is None:
            return self.function(*inputs) if key in self._first else self._record(key, inputs, [])
        tensors = dict(enumerate(inputs))
        decided: list[Decision] = []
        while True:
            for step in path.steps:
                step(tensors)
                for number in step.last:
                    del tensors[number]
            if path.gates is None:
                return _viewed(path.answer, tensors)
            if path.asked is None:
                groups = group_by_pattern(tensors[path.gates].tolist())
            else:
                asked, maps = path.asked
                before = decided[-1] if decided else None
                decided.append(asked.decide_now(maps.of(tensors), before))
                tensors[path.gates], groups = decided[-1]
            path = path.after.get(_chosen(groups))
            if path is None:
                return self._record(key, inputs, decided)

    def _record(self, key: tuple, inputs: Sequence[Tensor], decided: Sequence[Decision]) -> Any:
        """Makes the pass, for which so much was decided already."""
        recorder = Recorder(inputs, decided, asks=key[0])
        with _recorded_by(recorder), recorder, heard(recorder.hear):
            answer = self.function(*inputs)
        if key not in self._first and len(self._first) >= LAYOUTS:
            self._first.clear()
            self._ways.clear()
        self._ways[key] = self._ways.get(key, 0) + 1
        new, known = recorder.finished(answer), self._first.get(key)
        self._first[key] = None if new is None or self._ways[key] > WAYS else joined(known, new)
        return answer


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


class Recorder(TorchDispatchMode):
    """Writes down what is done: kernels that are called, operations of torch, and choices."""

    def __init__(self, inputs: Sequence[Tensor], decided: Sequence[Decision], asks: bool) -> None:
        super().__init__()
        self._decided, self._asks = iter(decided), asks
        self._before: Decision | None = None
        self._path = self._first = Path()
        self._is_repeatable, self._is_paused = True, False
        # The tensor that was made with each memory, which is weakly held: places are used again.
        self._whole: dict[StorageWeakRef, tuple[int, Layout]] = {}
        self._bytes: list[int] = []
        self._inputs = len(inputs)
        for x in inputs:
            self._is_repeatable &= _memory(x) not in self._whole
            self._add(x)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._is_paused:
            return operation(*args, **kwargs)
        with self.paused():
            answer = operation(*args, **kwargs)
        if operation.overloadpacket in MEMORY and answer.is_cpu:
            self._path.steps.append(Make(self._add(answer), Layout.of(answer)))
        else:
            self._write_down(operation, args, kwargs, answer)
        return answer

    def _write_down(self, operation: Any, args: Any, kwargs: Any, answer: Any) -> None:
        several = answer if isinstance(answer, (tuple, list)) else (answer,)
        told = [self._told(v) for v in args]
        written = [
            v
            for argument, v in zip(operation._schema.arguments, told)  # noqa: B905  (no defaults)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        is_same = not written and not any(map(_is_view, tree_leaves(told)))
        if is_same and (not _has_tensors(answer) or any(map(_is_opaque, several))):
            # What is asked of the processor, or a weight that is laid out for good.
            return
        self._is_repeatable &= operation._schema.name in KNOWN
        # What is written into has to be made in each pass anew: some are begun twice.
        self._is_repeatable &= all(_is_view(v) and v.number >= self._inputs for v in written)
        self._is_repeatable &= all(isinstance(v, Tensor) for v in several)
        if not self._is_repeatable or _has_tensors(kwargs):
            self._is_repeatable = False
            return
        # By where they are: by its schema an operation that may answer with a view always does.
        held = {
            _memory(v) for v in tree_leaves(args) if isinstance(v, Tensor) and not _is_opaque(v)
        }
        new = [x for x in several if _memory(x) not in held]
        if not new and not written:
            return
        self._is_repeatable &= len(new) in (0, len(several))
        makes = [self._add(x) for x in new]
        self._path.steps.append(Operate(operation, told, kwargs, makes))

    def fail(self) -> None:
        """Something is done that cannot be repeated, or that no recording sees."""
        self._is_repeatable = False

    def hear(self, function: Function, values: list[Any], arguments: Mapping[str, Any]) -> None:
        """A call of a kernel."""
        if self._is_paused:
            return
        places, kept = [], []
        for name, value in arguments.items():
            if isinstance(value, Tensor):
                found = self._whole.get(_memory(value))
                if found is None:
                    kept.append(value)
                else:
                    number, whole = found
                    offset = value.data_ptr() - whole.place
                    places.append((function.places[name], number, offset))
            elif isinstance(value, (list, tuple)):
                self._is_repeatable &= not _has_tensors(value)
        if places:
            self._path.steps.append(Call(function, list(values), places, kept))

    def decided(self, asked: Asked, x: Tensor) -> Decision:
        """What is decided, which may be known already."""
        before, decision = self._before, next(self._decided, None)
        if decision is None:
            with self.paused() if self._asks else nullcontext():
                decision = asked.decide_now(x, before)
        self._before = decision
        if decision is before and not self._asks:
            return decision
        gates, groups = decision
        maps = self._told(x)
        self._is_repeatable &= _is_view(maps)
        if self._asks and self._is_repeatable:
            self._path.asked = asked, maps
            self._add(gates)
        answer = self._told(gates)
        self._is_repeatable &= _is_view(answer) and answer.is_whole
        if self._is_repeatable:
            self._path.gates = answer.number
            self._path.after[_chosen(groups)] = self._path = Path()
        return decision

    def answered(
        self, asked: Asked, x: Tensor, gates: Tensor, groups: Groups, other: Tensor | None
    ) -> Tensor:
        """What is made of samples that chose differently, which is written down as one step."""
        with self.paused():
            answer = asked.answer_each(x, gates, groups, other)
        maps, told, added = (self._told(v) for v in (x, gates, other))
        self._is_repeatable &= _is_view(maps) and _is_view(told)
        self._is_repeatable &= added is None or _is_view(added)
        if self._is_repeatable:
            step = AnswerEach(asked, maps, told, added, self._add(answer))
            self._path.steps.append(step)
        return answer

    def finished(self, answer: Any) -> Path | None:
        """The way that was gone; None where it cannot be gone again."""
        if not self._is_repeatable:
            return None
        self._path.answer = self._told(answer)
        leaves = tree_leaves(self._path.answer)
        if not self._is_repeatable or not all(v is None or _is_view(v) for v in leaves):
            return None
        self._let_go()
        return self._first

    def _let_go(self) -> None:
        """Finds after which step each large tensor is not read any more, backwards."""
        paths = [self._first]
        while paths[-1].gates is not None:
            paths += paths[-1].after.values()
        large = {number for number, size in enumerate(self._bytes) if size >= SMALL}
        read = {v.number for v in tree_leaves(paths[-1].answer) if v is not None}
        for path in reversed(paths):
            if path.gates is not None:
                read.add(path.gates)
            if path.asked is not None:
                read.add(path.asked[1].number)
            for step in reversed(path.steps):
                step.last = [n for n in {*step.reads} - read if n in large]
                read.update(step.reads)

    def _add(self, x: Tensor) -> int:
        number = len(self._bytes)
        self._whole[_memory(x)] = number, Layout.of(x)
        self._bytes.append(x.numel() * x.element_size())
        return number

    def _told(self, value: Any) -> Any:
        """The same with views in the place of the pass's own tensors."""
        return tree_map_only(Tensor, self._told_of, value)

    def _told_of(self, x: Tensor) -> Any:
        found = None if _is_opaque(x) else self._whole.get(_memory(x))
        if found is None:
            return x
        self._is_repeatable &= found[1].dtype == x.dtype and not x.is_neg() and not x.is_conj()
        return View(*found, Layout.of(x))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, nothing is written down."""
        outer, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = outer


def current() -> Recorder | None:
    """That of the pass that is recorded in this thread."""
    return getattr(_here, "recorder", None)


def unrepeatable() -> None:
    """To be called where numbers decide what is done, and `decided` is not asked."""
    if (recorder := current()) is not None:
        recorder.fail()


def unrecorded() -> AbstractContextManager:
    """For what is made once for all passes."""
    recorder = current()
    return nullcontext() if recorder is None else recorder.paused()


@contextmanager
def _recorded_by(recorder: Recorder) -> Iterator[None]:
    _here.recorder = recorder
    try:
        yield
    finally:
        _here.recorder = None


def _is_plain(x: Any) -> bool:
    return type(x) is Tensor and x.is_cpu and not x.requires_grad and x.layout == torch.strided


def _is_transformed() -> bool:
    """Whether something looks at each operation, or tensors stand for others."""
    return (
        _get_current_dispatch_mode() is not None
        or torch._C._len_torch_function_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


def _memory(x: Tensor) -> StorageWeakRef:
    return StorageWeakRef(x.untyped_storage())


def _is_opaque(x: Tensor) -> bool:
    """Whether it is laid out as oneDNN likes it; weights of convolutions are."""
    return x.layout != torch.strided


def _chosen(groups: Groups) -> Pattern | None:
    return next(iter(groups)) if len(groups) == 1 else None


def _is_view(value: Any) -> bool:
    return type(value) is View


def _has_tensors(value: Any) -> bool:
    return any(isinstance(v, Tensor) for v in tree_leaves(value))


def _viewed(value: Any, tensors: dict[int, Tensor]) -> Any:
    if type(value) is View:
        return value.of(tensors)
    return tree_map_only(View, lambda view: view.of(tensors), value)
