"""Gates that answer as they are told, and keep what they would have answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vared_mm.method.config import AXES
from vared_mm.method.gate import FollowerGate, Gate
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import Look

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


@contextmanager
def answering(convs: Mapping[str, _Dynamic], forced: Tensor | None) -> Iterator[list[Asked]]:
    """Gates answer without a gradient, or as they are told; gives what was asked of them.

    Args:
        forced: (N, A) on which of `axes_of(convs)` samples compute all, on the others the least;
            None lets the gates choose.
    """
    seen: list[Asked] = []
    axes = axes_of(convs)

    def told(gate: nn.Module, args: tuple, answer: Tensor, conv: _Dynamic) -> Tensor:
        if forced is None:
            return answer.detach()
        of_conv = forced[:, [axes.index(axis) for axis in conv.axes]]
        rows = of_conv.repeat_interleave(len(answer) // len(forced), 0)
        ends = torch.eye(conv.dynamic.search_space)[[-1, 0]]
        return ends[rows.long()].flatten(1).to(answer)

    with ExitStack() as stack:
        for conv in convs.values():
            gate = conv.gate
            if not isinstance(gate, (Gate, FollowerGate)):
                continue
            if isinstance(gate, Gate):
                stack.callback(gate.register_forward_pre_hook(_detached).remove)
                asked = partial(Asked, gate, [axes.index(axis) for axis in conv.axes])
                stack.callback(Look(gate.logits, partial(_keep, asked=asked, seen=seen)).remove)
            # Before all other hooks, so that those see what is really used.
            stack.callback(Look(gate, partial(told, conv=conv), prepend=True).remove)
        yield seen


@contextmanager
def shifted(model: nn.Module, shift: float) -> Iterator[list[Tensor]]:
    """Gates in training decide as with β moved by `Gate.shift`; gives their z as they were."""
    seen: list[Tensor] = []

    def moved(module: nn.Module, args: tuple, z: Tensor, gate: Gate) -> Tensor:
        seen.append(z)
        return z + gate.shift(shift)

    with ExitStack() as stack:
        for gate in (m for m in model.modules() if isinstance(m, Gate)):
            stack.callback(Look(gate.logits, partial(moved, gate=gate)).remove)
        yield seen


def _detached(gate: nn.Module, args: tuple) -> tuple:
    return tuple(x.detach() for x in args)


def _keep(module: nn.Module, args: tuple, z: Tensor, asked: Callable, seen: list) -> None:
    seen.append(asked(z))
