"""Passes that are recorded, and then made again without the Python that found out what to do.

A pass over maps of one size calls the same kernels and operations in the same order each time: what
the gates decide alone can change it. To ask modules, compare sizes and choose kernels takes a
quarter of a pass over small maps. What was recorded is a tree, whose branches are the choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from vared_mm.fast.paths import Path, chosen, joined
from vared_mm.fast.recorder import Recorder
from vared_mm.fast.steps import Decision, viewed
from vared_mm.kernels.functions import heard
from vared_mm.method.layer import group_by_pattern

# Layouts of inputs that are remembered; and how many ways to choose for one of them.
LAYOUTS, WAYS = 16, 64


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
        autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        modes = (torch.is_grad_enabled(), *autocast)
        key = (asks, modes, *[(x.shape, x.stride(), x.dtype) for x in inputs])
        path = self._first.get(key)
        if path is None:
            return self.function(*inputs) if key in self._first else self._record(key, inputs, [])
        tensors = dict(enumerate(inputs))
        decided: list[Decision] = []
        while True:
            for step in path.quick:
                step(tensors)
                for number in step.last:
                    del tensors[number]
            if path.gates is None:
                return viewed(path.answer, tensors)
            if path.asked is None:
                groups = group_by_pattern(tensors[path.gates].tolist())
            else:
                asked, maps = path.asked
                before = decided[-1] if decided else None
                decided.append(asked.decide_now(maps.of(tensors), before))
                tensors[path.gates], groups = decided[-1]
            path = path.after.get(chosen(groups))
            if path is None:
                return self._record(key, inputs, decided)

    def _record(self, key: tuple, inputs: Sequence[Tensor], decided: Sequence[Decision]) -> Any:
        """Makes the pass, for which so much was decided already."""
        recorder = Recorder(inputs, decided, asks=key[0])
        with recorder, heard(recorder):
            answer = self.function(*inputs)
        if key not in self._first and len(self._first) >= LAYOUTS:
            self._first.clear()
            self._ways.clear()
        # Another thread may forget all of them meanwhile.
        ways = self._ways[key] = self._ways.get(key, 0) + 1
        new, known = recorder.finished(answer), self._first.get(key)
        self._first[key] = None if new is None or ways > WAYS else joined(known, new)
        return answer


def _is_plain(x: Any) -> bool:
    return type(x) is Tensor and x.is_cpu and not x.requires_grad and x.layout == torch.strided


def _is_transformed() -> bool:
    """Whether something looks at each operation, or tensors stand for others."""
    return (
        _get_current_dispatch_mode() is not None
        or torch._C._len_torch_function_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
