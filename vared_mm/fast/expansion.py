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

from vared_mm.fast.branch import prefix_extent
from vared_mm.fast.fused_conv import DynamicConv, StaticConv
from vared_mm.fast.graph import follows, only_user
from vared_mm.fast.native_conv import NativeConv
from vared_mm.fast.packed_conv import PackedConv, as_channels_last
from vared_mm.fast.prepared_forward import has_hooks
from vared_mm.kernels.convolutions import Convolving, Expander
from vared_mm.kernels.rebuild import kernel_serves
from vared_mm.method.layer import Pattern


class Expansion(nn.Module):
    """Calls the two prepared convolutions, or one kernel for both where nothing is rebuilt and
    nobody looks between.
    """

    def __init__(self, first: _ConvNd, second: _ConvNd) -> None:
        super().__init__()
        # In tuples: of its children a module finds the names slowly.
        self.convs = first, second
        self.runs: tuple = (first.forward.run, second.forward.run)  # type: ignore[attr-defined]
        self._knows = cast(NativeConv, _whole(self.runs[0])).serves
        self.is_dynamic = isinstance(self.runs[0], DynamicConv)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.convs
        if not self._serves(x):
            return second(first(x, fused=True), fused=True)
        x = as_channels_last(x)
        return self._as_decided(x) if self.is_dynamic else self._of_all(x)

    def _serves(self, x: Tensor) -> bool:
        """Whether nobody looks between, and it is maps that our kernels know."""
        first, second = self.convs
        return (
            not has_hooks(first)
            and not has_hooks(second)
            and x.ndim == first.weight.ndim
            and x.shape[1] == first.in_channels
            and self._knows(x)
            and not (x.requires_grad and torch.is_grad_enabled())
        )

    def _of_all(self, x: Tensor) -> Tensor:
        first, second = self.runs
        by = Expander(first.packed.kernel, first.finish, None)
        return second.packed.kernel.expanded(x, second.finish, None, by)

    def _as_decided(self, x: Tensor) -> Tensor:
        first, second = self.runs
        (gates, groups), (again, others) = first.decide(x), second.decide(x)
        if len(groups) == 1 and others == groups:
            (pattern,) = groups
            one, two = first.branch(pattern, self._read(x, pattern)), second.branch(pattern)
            by = one.expander(gates) if isinstance(two.prefix, NativeConv) else None
            if by is None:
                return two(one(x, gates, None), again, None)
            return two(x, again, None, by=by)
        return second.answer(first.answer(x, gates, groups, None), again, others, None)

    def _read(self, x: Tensor, pattern: Pattern) -> int | None:
        """How many channels of what is between are read, if those that are computed are enough.

        A depthwise convolution makes each channel of the same one, and what both rebuild alike it
        rebuilds of its own. Of several open paths of the channel axis the wider ones read what the
        narrower ones rebuild.
        """
        conv = self.runs[0].conv
        k, _ = conv.extent(pattern)
        read, _ = prefix_extent(conv, k)
        if read == conv.out_channels or not kernel_serves(x, conv.dynamic.cheap_kernel):
            return None
        space = conv.dynamic.search_space
        return read if sum(pattern[:space]) == 1 else None


def fuse_expansions(graph: fx.GraphModule) -> set[fx.Node]:
    """Lets one call stand for each such pair, after they have been prepared; gives these calls."""
    made = set()
    for first, second in list(expansions(graph)):
        convs = [cast(_ConvNd, graph.get_submodule(str(node.target))) for node in (first, second)]
        name = f"{first.target}_and_depthwise"
        graph.add_submodule(name, Expansion(*convs))
        with graph.graph.inserting_before(first):
            new = graph.graph.call_module(name, (first.args[0],))
        second.replace_all_uses_with(new)
        made.add(new)
        graph.graph.erase_node(second)
        graph.graph.erase_node(first)
    return made


def expansions(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Pairs that our kernels know: both static, or the second following the first one's gate."""
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        user = only_user(node)
        # Both prepared, and nothing added to either.
        if user is None or len(node.args) != 1 or user.args != (node,):
            continue
        if not all(n.op == "call_module" and n.kwargs.get("fused") for n in (node, user)):
            continue
        first, second = (cast(_ConvNd, modules[str(n.target)]) for n in (node, user))
        runs = [conv.forward.run for conv in (first, second)]  # type: ignore[attr-defined]
        static = all(isinstance(run, StaticConv) for run in runs)
        dynamic = all(isinstance(run, DynamicConv) for run in runs)
        if (
            (static or (dynamic and follows(user, first, modules)))
            and second.groups == second.in_channels
            and set(first.stride) == set(first.kernel_size) == {1}
            and all(map(_is_native, runs))
        ):
            yield node, user


def _whole(run: StaticConv | DynamicConv) -> PackedConv:
    """The convolution where everything is computed."""
    if isinstance(run, StaticConv):
        return run.packed
    everything = (True, *[False] * (run.conv.dynamic.search_space - 1)) * len(run.conv.axes)
    return run.branch(everything).prefix


def _is_native(run: StaticConv | DynamicConv) -> bool:
    whole = _whole(run)
    # Not one of tiles.
    return isinstance(whole, NativeConv) and type(whole.kernel) is Convolving
