"""A pointwise convolution and the depthwise one that alone reads it, as blocks of X3D begin.

What is between has more channels than anything else in the block: it is made in pieces, which are
read while they are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.fused_conv import Decision, DynamicConv, StaticConv
from vared_mm.fast.graph import depthwise_pairs, has_hooks
from vared_mm.fast.native_conv import Expander, NativeConv, kernels_serve
from vared_mm.fast.packed_conv import channels_last
from vared_mm.fast.rebuilt_expansion import RebuiltExpansion, knows
from vared_mm.method.layer import Pattern


class Expansion(nn.Module):
    """Calls the two prepared convolutions, or one kernel for both where nobody looks between."""

    def __init__(self, first: _ConvNd, second: _ConvNd) -> None:
        super().__init__()
        # In tuples: of its children a module finds the names slowly.
        self.convs = first, second
        runs = [conv.forward.run for conv in self.convs]  # type: ignore[attr-defined]
        self.runs: tuple = tuple(runs)
        self.is_dynamic = isinstance(runs[0], DynamicConv)
        self.rebuilds = self.is_dynamic and knows(runs[0].conv, runs[1].conv)
        self._rebuilt: dict[Pattern, RebuiltExpansion] = {}

    def forward(self, x: Tensor) -> Tensor:
        if not self.serves(x):
            first, second = self.convs
            return second(first(x, fused=True), fused=True)
        x = channels_last(x)
        if not self.is_dynamic:
            return self._of_all(x)
        decision = self.runs[0].decide(x)
        return self.decided(x, decision, self.runs[1].follow(x, decision))

    def serves(self, x: Tensor) -> bool:
        """Whether nobody looks between, and it is maps that our kernels know."""
        first, second = self.convs
        return (
            not has_hooks(first)
            and not has_hooks(second)
            and x.ndim == first.weight.ndim
            and x.shape[1] == first.in_channels
            and kernels_serve(x)
            and not (x.requires_grad and torch.is_grad_enabled())
        )

    def _of_all(self, x: Tensor) -> Tensor:
        first, second = self.runs
        by = Expander(first.packed, first.finish, None)
        return second.packed.expanded(x, second.finish, None, by)

    def decided(self, x: Tensor, decision: Decision, following: Decision, every: int = 1) -> Tensor:
        """For x channels last, and what the two decided; each `every`-th frame, where it rebuilds
        those of one pattern.
        """
        (first, second), (gates, groups), (again, others) = self.runs, decision, following
        if len(groups) == 1 and others == groups:
            (pattern,) = groups
            one, two = first.branch(pattern), second.branch(pattern)
            if one.finish is not None and two.finish is not None:
                by = Expander(one.prefix, one.finish, gates)
                return two.prefix.expanded(x, two.finish, again, by)
            if self.rebuilds:
                if pattern not in self._rebuilt:
                    self._rebuilt[pattern] = RebuiltExpansion(one, two)
                return self._rebuilt[pattern](x, gates, again, every)
        return second.answer(first.answer(x, gates, groups, None), again, others, None)


def fuse_expansions(graph: fx.GraphModule) -> None:
    """Lets one call stand for each such pair, after they have been prepared."""
    for first, second in list(expansions(graph)):
        convs = [cast(_ConvNd, graph.get_submodule(str(node.target))) for node in (first, second)]
        name = f"{first.target}_and_depthwise"
        graph.add_submodule(name, Expansion(*convs))
        with graph.graph.inserting_before(first):
            second.replace_all_uses_with(graph.graph.call_module(name, (first.args[0],)))
        graph.graph.erase_node(second)
        graph.graph.erase_node(first)


def expansions(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Pairs that our kernels know: both static, or the second following the first one's gate."""
    for first, second, follows in depthwise_pairs(graph):
        convs = [graph.get_submodule(str(node.target)) for node in (first, second)]
        runs = [getattr(conv.forward, "run", None) for conv in convs]
        static = all(isinstance(run, StaticConv) for run in runs)
        dynamic = follows and all(isinstance(run, DynamicConv) for run in runs)
        if (static or dynamic) and _is_native(runs[0]) and _is_native(runs[1]):
            one = cast(_ConvNd, convs[0])
            if set(one.stride) == {1}:
                yield first, second


def _is_native(run: object) -> bool:
    if isinstance(run, StaticConv):
        return isinstance(run.packed, NativeConv)
    if not isinstance(run, DynamicConv):
        return False
    everything = (True, *[False] * (run.conv.dynamic.search_space - 1)) * len(run.conv.axes)
    return isinstance(run.branch(everything).prefix, NativeConv)
