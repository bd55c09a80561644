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
from vared_mm.method.observe import Look
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


When = Callable[[], bool]


def in_passes() -> bool:
    return not recomputes()


@contextmanager
def answering(
    convs: Mapping[str, _Dynamic], forced: Tensor | None, when: When = in_passes
) -> Iterator[list[Asked]]:
    """Gates answer without a gradient, or as they are told; gives what was asked of them.

    Args:
        forced: (N, A) on which of `axes_of(convs)` samples compute all, on the others the least;
            None lets the gates choose.
        when: At other times they answer as without it.
    """
    seen: list[Asked] = []
    axes = axes_of(convs)

    def told(gate: nn.Module, args: tuple, answer: Tensor, conv: _Dynamic) -> Tensor:
        if not when():
            return answer
        if forced is None:
            return answer.detach()
        of_conv = forced[:, [axes.index(axis) for axis in conv.axes]]
        rows = of_conv.repeat_interleave(len(answer) // len(forced), 0)
        ends = torch.eye(conv.dynamic.search_space)[[-1, 0]]
        return ends[rows.long()].flatten(1).to(answer)

    def detached(gate: nn.Module, args: tuple) -> tuple:
        return tuple(x.detach() for x in args) if when() else args

    with ExitStack() as stack:
        for conv in convs.values():
            gate = conv.gate
            if not isinstance(gate, (Gate, FollowerGate)):
                continue
            if isinstance(gate, Gate):
                stack.callback(gate.register_forward_pre_hook(detached).remove)
                asked = partial(Asked, gate, [axes.index(axis) for axis in conv.axes])
                stack.callback(Look(gate.logits, partial(_keep, asked=asked, seen=seen)).remove)
            # Before all other hooks, so that those see what is really used.
            stack.callback(Look(gate, partial(told, conv=conv), prepend=True).remove)
        yield seen


@contextmanager
def shifted(model: nn.Module, shift: float, when: When = in_passes) -> Iterator[list[Tensor]]:
    """Gates in training decide as with β moved by `Gate.shift`; gives their z as they were.
    `when` as of `answering`."""
    seen: list[Tensor] = []

    def moved(module: nn.Module, args: tuple, z: Tensor, gate: Gate) -> Tensor:
        if not when():
            return z
        seen.append(z)
        return z + gate.shift(shift)

    with ExitStack() as stack:
        for gate in (m for m in model.modules() if isinstance(m, Gate)):
            stack.callback(Look(gate.logits, partial(moved, gate=gate)).remove)
        yield seen


class ToldAgain:
    """Activation checkpointing computes parts of a pass again in the backward one, after its gates
    were told: they are told the same then, and at no other time."""

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
