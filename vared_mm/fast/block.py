"""A whole block of X3D: an expansion, Swish or squeeze-excite, and the pointwise convolution after.

All three convolutions follow one gate, which is asked once for all of them. What the last one does
not read of the expansion's frames is not made, unless squeeze-excite takes the mean of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch.nn.functional as F
from torch import Tensor, fx, nn

from vared_mm.fast.expansion import Expansion
from vared_mm.fast.fused_conv import Decision, DynamicConv
from vared_mm.fast.graph import follows, only_user, written_between
from vared_mm.fast.packed_conv import channels_last, output_size
from vared_mm.fast.squeeze_excite import SqueezeExcite
from vared_mm.method.layer import _Dynamic, is_pointwise


class Block(nn.Module):
    """Calls the prepared parts, with one decision for all where nobody looks at one of them.

    Without squeeze-excite, Swish is between.
    """

    def __init__(self, expansion: Expansion, excite: SqueezeExcite | None, last: _Dynamic) -> None:
        super().__init__()
        self.expansion, self.excite, self.last = expansion, excite, last
        self._between: Callable[[Tensor], Tensor] = F.silu if excite is None else excite
        self._run: DynamicConv = last.forward.run  # type: ignore[attr-defined]

    def forward(self, x: Tensor, *other: Tensor) -> Tensor:
        expansion, last = self.expansion, self._run
        watched = self.last._forward_hooks or self.last._forward_pre_hooks
        if watched or not expansion.serves(x) or not self._can_add(x, *other):
            return self.last(self._between(expansion(x)), *other, fused=True)
        x = channels_last(x)
        first, second = expansion.runs
        decision = first.decide(x)
        following, gates = second.follow(x, decision), last.follow(x, decision)
        every = self._leaves_out(decision, following, gates)
        y = self._between(expansion.decided(x, decision, following, every))
        if every == 1:
            return last.answer(y, *gates, *(other or (None,)))
        (pattern,) = decision[1]
        return last.of_read_frames(y, gates[0], pattern, *(other or (None,)), frames=x.shape[2])

    def _can_add(self, x: Tensor, other: Tensor | None = None) -> bool:
        if other is None:
            return True
        size = output_size(self.expansion.second, x.shape[2:])
        return other.dtype == x.dtype and other.shape == (x.shape[0], self.last.out_channels, *size)

    def _leaves_out(self, *decisions: Decision) -> int:
        """R, if each R-th frame between is all that is read and all agree on it; else 1."""
        patterns = decisions[0][1]
        agreed = all(groups == patterns for _, groups in decisions)
        if (
            self.excite is not None
            or not self.expansion.rebuilds
            or len(patterns) > 1
            or not agreed
        ):
            return 1
        return self.last.extent(next(iter(patterns)))[1]


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
    conv, first = modules.get(str(node.target)), expansion.first
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
