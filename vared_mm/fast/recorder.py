"""Writes a pass down while it is made, as steps to be made again without the Python that finds
out what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.fast.paths import Path, chosen
from vared_mm.fast.steps import (
    AnswerEach,
    Asked,
    Call,
    Decision,
    Groups,
    Layout,
    Make,
    Operate,
    View,
    is_view,
)
from vared_mm.kernels.functions import Function, listener

# What takes fewer bytes is kept to the end of a pass.
SMALL = 1 << 14
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
# What kernels write, by their names for it.
WRITTEN = {"out", "answer"}


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
        is_same = not written and not any(map(is_view, tree_leaves(told)))
        if is_same and (not _has_tensors(answer) or any(map(_is_opaque, several))):
            # What is asked of the processor, or a weight that is laid out for good.
            return
        self._is_repeatable &= operation._schema.name in KNOWN
        # What is written into has to be made in each pass anew: some are begun twice.
        self._is_repeatable &= all(is_view(v) and v.number >= self._inputs for v in written)
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
                # As in `_write_down`.
                is_made = found is not None and found[0] >= self._inputs
                self._is_repeatable &= is_made or name not in WRITTEN
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
        self._is_repeatable &= is_view(maps)
        if self._asks and self._is_repeatable:
            self._path.asked = asked, maps
            self._add(gates)
        answer = self._told(gates)
        self._is_repeatable &= is_view(answer) and answer.is_whole
        if self._is_repeatable:
            self._path.gates = answer.number
            self._path.after[chosen(groups)] = self._path = Path()
        return decision

    def answered(
        self, asked: Asked, x: Tensor, gates: Tensor, groups: Groups, other: Tensor | None
    ) -> Tensor:
        """What is made of samples that chose differently, which is written down as one step."""
        with self.paused():
            answer = asked.answer_each(x, gates, groups, other)
        maps, told, added = (self._told(v) for v in (x, gates, other))
        self._is_repeatable &= is_view(maps) and is_view(told)
        self._is_repeatable &= added is None or is_view(added)
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
        if not self._is_repeatable or not all(v is None or is_view(v) for v in leaves):
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
        # A reference to memory that is gone keeps a small block between the maps that come.
        for gone in [memory for memory in self._whole if memory.expired()]:
            del self._whole[gone]
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
    return cast(Recorder | None, listener())


def unrepeatable() -> None:
    """To be called where numbers decide what is done, and `decided` is not asked."""
    if (recorder := current()) is not None:
        recorder.fail()


def unrecorded() -> AbstractContextManager:
    """For what is made once for all passes."""
    recorder = current()
    return nullcontext() if recorder is None else recorder.paused()


def _memory(x: Tensor) -> StorageWeakRef:
    return StorageWeakRef(x.untyped_storage())


def _is_opaque(x: Tensor) -> bool:
    """Whether it is laid out as oneDNN likes it; weights of convolutions are."""
    return isinstance(x, Tensor) and x.layout != torch.strided


def _has_tensors(value: Any) -> bool:
    return any(isinstance(v, Tensor) for v in tree_leaves(value))
