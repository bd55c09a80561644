"""A batch whose maps would outgrow the memory at hand, run a few samples at a time.

In evaluation the answer for a sample is its own, so that of a batch is those of its parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from vared_mm.method.gate import FollowerGate, Gate

# Bytes of a map. What is larger glibc keeps for no other one: the system hands out fresh memory
# each time and clears it first, and none of it is in a cache.
LARGEST = 1 << 25


class InParts:
    """The graph of a module, on a CPU in parts where that was seen to answer the same.

    Hooks on modules inside see whole batches: with one, the batch runs at once. Those on gates
    alone, which are asked in order, see the parts.
    """

    def __init__(self, graph: fx.GraphModule, module: nn.Module) -> None:
        # Not the call of the module, which prints where an error was raised that may be expected.
        self.graph, self.run = graph, graph.forward
        gates = (Gate, FollowerGate)
        self.inside = [m for m in module.modules() if m is not module and not isinstance(m, gates)]
        # Bytes of the largest map for each of the input, known by the first call.
        self.growth: float | None = None
        # Whether samples alone are answered as in a batch, known by the first batch too large.
        self.separable: bool | None = None

    def __call__(self, *inputs: Any) -> Any:
        batch = batch_of(inputs)
        if not batch:
            return self.run(*inputs)
        if self.growth is None:
            return self._measured(inputs)
        at_once = max(1, int(LARGEST * batch / (self.growth * inputs[0].nbytes)))
        if at_once >= batch or self.separable is False or self._is_watched():
            return self.run(*inputs)
        if self.separable:
            return self._in_parts(inputs, at_once)
        answer = self.run(*inputs)
        # Samples that are all alike, as zeros to warm up with, would hide what they have of others.
        if all(bool((x != x[:1]).any()) for x in inputs):
            # One sample at a time: what holds for those holds for all ways to part a batch.
            self.separable = self._is_separable(inputs, answer)
        return answer

    def _measured(self, inputs: tuple[Tensor, ...]) -> Any:
        measured = Measured(self.graph)
        answer = measured.run(*inputs)
        self.growth = measured.largest / inputs[0].nbytes
        return answer

    def _is_watched(self) -> bool:
        return any(m._forward_hooks or m._forward_pre_hooks for m in self.inside)

    def _is_separable(self, inputs: tuple[Tensor, ...], answer: Any) -> bool:
        try:
            return alike(self._in_parts(inputs, 1), answer)
        except Exception:
            # Whatever a module does that reckons with other samples than it gets.
            return False

    def _in_parts(self, inputs: tuple[Tensor, ...], at_once: int) -> Any:
        each = zip(*(x.split(at_once) for x in inputs), strict=True)
        answers = [tree_flatten(self.run(*part)) for part in each]
        columns = zip(*(leaves for leaves, _ in answers), strict=True)
        return tree_unflatten([torch.cat(column) for column in columns], answers[0][1])


class Measured(fx.Interpreter):
    """Runs a graph and keeps the size of its largest map, in bytes."""

    largest = 1

    def run_node(self, n: fx.Node) -> Any:
        answer = super().run_node(n)
        if isinstance(answer, Tensor):
            self.largest = max(self.largest, answer.nbytes)
        return answer


def batch_of(inputs: tuple[Any, ...]) -> int:
    """How many samples there are, if all inputs are maps on a CPU and agree on it; else 0."""
    if not all(isinstance(x, Tensor) and x.ndim > 1 and x.device.type == "cpu" for x in inputs):
        return 0
    batches = {x.shape[0] for x in inputs}
    return batches.pop() if len(batches) == 1 and inputs[0].numel() else 0


def alike(came: Any, expected: Any) -> bool:
    pairs = zip(tree_leaves(came), tree_leaves(expected), strict=True)
    return all(
        a.shape == b.shape
        and bool((a - b).abs().max() <= torch.finfo(b.dtype).eps ** 0.5 * b.abs().max())
        for a, b in pairs
    )
