"""A whole block of X3D: an expansion, Swish or squeeze-excite, and the pointwise convolution after.

All three convolutions follow one gate, which is asked once for all of them. What the last one does
not read of the expansion's frames is not made, unless squeeze-excite takes the mean of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, fx, nn

from vared_mm.fast.expansion import Expansion
from vared_mm.fast.fused_conv import DynamicConv, rows_of
from vared_mm.fast.graph import follows, has_hooks, only_user, written_between
from vared_mm.fast.packed_conv import channels_last, new_maps, output_size
from vared_mm.fast.squeeze_excite import SqueezeExcite
from vared_mm.method.layer import Pattern, _Dynamic, is_pointwise


class Block(nn.Module):
    """Calls the prepared parts, with one decision for all where nobody looks at one of them.

    Samples that choose alike pass the whole block together. Without squeeze-excite, Swish is
    between.
    """

    def __init__(self, expansion: Expansion, excite: SqueezeExcite | None, last: _Dynamic) -> None:
        super().__init__()
        # In tuples, as those of the expansion.
        self._parts = expansion, last
        self._runs: tuple = (*expansion.runs, last.forward.run)  # type: ignore[attr-defined]
        self._between: Callable[[Tensor], Tensor] = F.silu if excite is None else excite
        self._may_leave_out = excite is None and expansion.rebuilds

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        expansion, last = self._parts
        if not self._serves(x, other):
            return last(self._between(expansion(x)), other, fused=True)
        x = channels_last(x)
        first, second, third = self._runs
        decision = first.decide(x)
        following, gates = second.follow(x, decision), third.follow(x, decision)
        if not decision[1] == following[1] == gates[1]:
            y = self._between(expansion.decided(x, decision, following))
            return third.answer(y, *gates, other)
        answers = decision[0], following[0], gates[0]
        if len(decision[1]) == 1:
            (pattern,) = decision[1]
            return self._alike(pattern, x, answers, other)
        out = new_maps(x, (x.shape[0], last.out_channels, *output_size(second.conv, x.shape[2:])))
        for pattern, samples in decision[1].items():
            rows = list(samples)
            own = [answer[rows] for answer in answers]
            rest = None if other is None else rows_of(channels_last(other), samples)
            out[rows] = self._alike(pattern, rows_of(x, samples), own, rest)
        return out

    def _alike(
        self, pattern: Pattern, x: Tensor, answers: Sequence[Tensor], other: Tensor | None
    ) -> Tensor:
        """For samples that opened `pattern`, and the answers of the three gates."""
        expansion, _ = self._parts
        _, second, third = self._runs
        group: dict[Pattern, Sequence[int]] = {pattern: range(x.shape[0])}
        every = third.conv.extent(pattern)[1] if self._may_leave_out else 1
        decisions = (answers[0], group), (answers[1], group)
        y = self._between(expansion.decided(x, *decisions, every))
        other = None if other is None else channels_last(other)
        if every == 1:
            return third.branch(pattern)(y, answers[2], other)
        size = output_size(second.conv, x.shape[2:])
        return third.branch_of_read_frames(pattern)(y, answers[2], other, size=size)

    def _serves(self, x: Tensor, other: Tensor | None) -> bool:
        expansion, last = self._parts
        if has_hooks(last) or not expansion.serves(x):
            return False
        if other is None:
            return True
        size = output_size(self._runs[1].conv, x.shape[2:])
        return other.dtype == x.dtype and other.shape == (x.shape[0], last.out_channels, *size)


def fuse_blocks(graph: fx.GraphModule) -> None:
    """Lets one call stand for each, after their parts have been prepared and fused."""
    for expansion, between, last in list(blocks(graph)):
        parts = [graph.get_submodule(str(n.target)) for n in (expansion, last)]
        excite = graph.get_submodule(str(between.target)) if between.op == "call_module" else None
        name = f"{expansion.target}_and_last"
        graph.add_submodule(name, Block(parts[0], excite, parts[1]))  # type: ignore[arg-type]
        with graph.graph.inserting_before(last):
            arguments = (*expansion.args, *last.args[1:])
            last.replace_all_uses_with(graph.graph.call_module(name, arguments))
        for node in (last, between, expansion):
            graph.graph.erase_node(node)


def blocks(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        expansion = modules.get(str(node.target)) if node.op == "call_module" else None
        between = only_user(node)
        if not isinstance(expansion, Expansion) or not expansion.is_dynamic or between is None:
            continue
        excites = isinstance(modules.get(str(between.target)), SqueezeExcite)
        last = only_user(between)
        if last is None or not (excites or _is_swish(between)):
            continue
        if _can_be_last(last, between, expansion, modules) and not written_between(
            node, last, modules
        ):
            yield node, between, last


def _is_swish(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is F.silu and not node.kwargs


def _can_be_last(
    node: fx.Node, between: fx.Node, expansion: Expansion, modules: dict[str, nn.Module]
) -> bool:
    """Whether it is a pointwise convolution of what is between that follows the same gate."""
    conv, first = modules.get(str(node.target)), expansion.convs[0]
    return (
        isinstance(conv, _Dynamic)
        and follows(node, first, modules)
        and isinstance(getattr(conv.forward, "run", None), DynamicConv)
        and node.kwargs == {"fused": True}
        and node.args[0] is between
        and between not in node.args[1:]
        and is_pointwise(conv)
        and conv.axes == cast(_Dynamic, first).axes
        and conv.dynamic.search_space == cast(_Dynamic, first).dynamic.search_space
    )
