"""Gates that answer as they are told, and keep what they would have answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vared_mm.method.config import AXES
from vared_mm.method.errors import DynamicError
from vared_mm.method.gate import FollowerGate, Gate
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import Look, When, in_this_thread
from vared_mm.method.operators import recomputes

# What lets them learn.
IN_TRAINING = "norm_eval=False of the backbone, or freeze_gates=False of YOWO"


def axes_of(convs: Mapping[str, _Dynamic]) -> list[str]:
    """On which any of them is dynamic."""
    return [axis for axis in AXES if any(axis in conv.axes for conv in convs.values())]


class Asked(NamedTuple):
    """A gate, of which axes it decides by their places in `axes_of`, and its z (R, G) of a pass."""

    gate: Gate
    axes: list[int]
    z: Tensor


def in_passes() -> When:
    """In this thread's, without what is computed again for them."""
    is_own = in_this_thread()
    return lambda: is_own() and not recomputes()


@contextmanager
def answering(
    convs: Mapping[str, _Dynamic], forced: Tensor | None, when: When | None = None
) -> Iterator[list[Asked]]:
    """Gates answer without a gradient, or as they are told; gives what was asked of them.

    Args:
        forced: (N, A) on which of `axes_of(convs)` samples compute all, on the others the least;
            None lets the gates choose.
        when: At other times they answer as without it; by default `in_passes`.
    """
    seen: list[Asked] = []
    axes, is_time = axes_of(convs), when or in_passes()

    def told(gate: nn.Module, args: tuple, answer: Tensor, conv: _Dynamic) -> Tensor:
        if forced is None:
            return answer.detach()
        of_conv = forced[:, [axes.index(axis) for axis in conv.axes]]
        rows = of_conv.repeat_interleave(len(answer) // len(forced), 0)
        ends = torch.eye(conv.dynamic.search_space)[[-1, 0]]
        return ends[rows.long()].flatten(1).to(answer)

    def detached(gate: nn.Module, args: tuple) -> tuple:
        return tuple(x.detach() for x in args) if is_time() else args

    with ExitStack() as stack:
        for conv in convs.values():
            gate = conv.gate
            if not isinstance(gate, (Gate, FollowerGate)):
                continue
            if isinstance(gate, Gate):
                stack.callback(gate.register_forward_pre_hook(detached).remove)
                asked = partial(Asked, gate, [axes.index(axis) for axis in conv.axes])
                keep = partial(_keep, asked=asked, seen=seen)
                stack.callback(Look(gate.logits, keep, when=is_time).remove)
            # Before all other hooks, so that those see what is really used.
            tell = partial(told, conv=conv)
            stack.callback(Look(gate, tell, prepend=True, when=is_time).remove)
        yield seen


@contextmanager
def shifted(model: nn.Module, shift: float, when: When | None = None) -> Iterator[list[Tensor]]:
    """Gates in training decide as with β moved by `Gate.shift`; gives their z as they were.
    `when` as of `answering`."""
    seen: list[Tensor] = []
    is_time = when or in_passes()

    def moved(module: nn.Module, args: tuple, z: Tensor, gate: Gate) -> Tensor:
        seen.append(z)
        return z + gate.shift(shift)

    with ExitStack() as stack:
        for gate in (m for m in model.modules() if isinstance(m, Gate)):
            move = partial(moved, gate=gate)
            stack.callback(Look(gate.logits, move, when=is_time).remove)
        yield seen


class ToldAgain:
    """Activation checkpointing computes parts of a pass again in the backward one, after its gates
    were told: they are told the same then, and at no other time. Of a GPU that is in a thread of
    autograd's, so that any is looked at."""

    def __init__(self) -> None:
        self._stack, self._passes = ExitStack(), 0

    def by(self, telling: Callable[..., AbstractContextManager]) -> None:
        """Of a pass: `telling(when=...)` is what its gates were told by."""
        self._passes += 1
        self._stack.enter_context(telling(when=self._when))

    def _when(self) -> bool:
        if not recomputes():
            return False
        if self._passes > 1:
            raise DynamicError(
                f"{self._passes} passes of an iteration have gates that were told what to answer, "
                "and activation checkpointing asks them again without telling of which pass; leave "
                "it out (with_cp=False), or make one pass"
            )
        return True

    def end(self) -> None:
        """The iteration is done."""
        self._stack.close()
        self._passes = 0


def _keep(module: nn.Module, args: tuple, z: Tensor, asked: Callable, seen: list) -> None:
    seen.append(asked(z))
