"""Squeeze and excitation, with the Swish after it, where a prepared model has them.

As X3D's blocks have it: x · sigmoid(W2 · relu(W1 · mean(x))).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from vared_mm.fast.fused_conv import StaticConv
from vared_mm.fast.graph import SIGMOIDS, only_user, written_between
from vared_mm.fast.prepared_forward import has_hooks
from vared_mm.kernels.squeeze_excite import Exciting, swish


class SqueezeExcite(nn.Module):
    """Made of the two prepared convolutions, whose weights it reads."""

    def __init__(self, first: nn.Module, second: nn.Module, swish: bool) -> None:
        super().__init__()
        self.first, self.second, self.swish = first, second, swish
        one, two = (cast(Any, conv.forward).run.packed for conv in (first, second))
        self._kernel = Exciting(one.weight, one.bias, two.weight, two.bias, swish)

    def forward(self, x: Tensor) -> Tensor:
        is_watched = has_hooks(self.first) or has_hooks(self.second)
        is_differentiated = x.requires_grad and torch.is_grad_enabled()
        if self._kernel.serves(x) and not is_watched and not is_differentiated:
            return self._kernel(x)
        gate = x.mean(tuple(range(2, x.ndim)), keepdim=True)
        gate = self.second(self.first(gate, fused=True), fused=True)
        x = x * gate.sigmoid()
        return swish(x) if self.swish else x


class Found(NamedTuple):
    """One squeeze and excitation: what it reads, its two convolutions, and all of its nodes."""

    x: fx.Node
    first: fx.Node
    second: fx.Node
    nodes: list[fx.Node]
    swish: bool


def fuse_squeeze_excite(graph: fx.GraphModule) -> None:
    """Lets one call stand for each, after its convolutions have been prepared."""
    exchanged: dict[fx.Node, fx.Node] = {}
    for found in list(excitations(graph)):
        first, second = (graph.get_submodule(str(n.target)) for n in (found.first, found.second))
        name = f"{found.first.target}_and_excite"
        graph.add_submodule(name, SqueezeExcite(first, second, found.swish))
        # What it reads may be another one, which is gone by now.
        x = exchanged.get(found.x, found.x)
        with graph.graph.inserting_before(found.nodes[-1]):
            exchanged[found.nodes[-1]] = graph.graph.call_module(name, (x,))
        found.nodes[-1].replace_all_uses_with(exchanged[found.nodes[-1]])
        for node in reversed(found.nodes):
            graph.graph.erase_node(node)


def excitations(graph: fx.GraphModule) -> Iterator[Found]:
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.target not in (operator.mul, torch.mul) or node.kwargs:
            continue
        for x, gate in (node.args, node.args[::-1]):
            if (chain := _chain_to(gate, x, modules)) is not None:
                pool, first, second, _ = chain
                user = only_user(node)
                after = [user] if user is not None and user.target is swish else []
                if not written_between(pool, [node, *after][-1], modules):
                    yield Found(x, first, second, [*chain, node, *after], bool(after))
                break


def _chain_to(
    gate: object, x: object, modules: dict[str, nn.Module]
) -> tuple[fx.Node, fx.Node, fx.Node, fx.Node] | None:
    """The nodes from x to its `gate` if nobody else reads them: mean, convolutions, sigmoid."""
    nodes: list[fx.Node] = []
    for _ in range(4):
        if not isinstance(gate, fx.Node) or only_user(gate) is None or len(gate.args) != 1:
            return None
        nodes.append(gate)
        gate = gate.args[0]
    sigmoid, second, first, pool = nodes
    if gate is not x:
        return None
    fits = (
        _is_sigmoid(sigmoid, modules)
        and _is_pointwise(second, False, modules)
        and _is_pointwise(first, True, modules)
        and _is_mean(pool, modules)
        and _sizes_fit(first, second, modules)
    )
    return (pool, first, second, sigmoid) if fits else None


def _sizes_fit(first: fx.Node, second: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether there is a number for each channel that is excited, and not one for all."""
    one, two = (cast(Any, modules[str(node.target)]) for node in (first, second))
    return one.weight.ndim == two.weight.ndim and one.in_channels == two.out_channels


def _module_of(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    """What the node calls, unless it has hooks."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    return None if module is None or has_hooks(module) else module


def _is_sigmoid(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return type(_module_of(node, modules)) is nn.Sigmoid or (
        node.op != "call_module" and node.target in SIGMOIDS
    )


def _is_mean(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    pool = _module_of(node, modules)
    return isinstance(pool, nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d) and pool.output_size in (
        1, (1, 1), (1, 1, 1),
    )  # fmt: skip


def _is_pointwise(node: fx.Node, relu: bool, modules: dict[str, nn.Module]) -> bool:
    """Whether it calls a static prepared convolution of one pixel, with or without a ReLU."""
    conv = _module_of(node, modules)
    run = getattr(getattr(conv, "forward", None), "run", None)
    return (
        isinstance(conv, nn.Conv2d | nn.Conv3d)
        and isinstance(run, StaticConv)
        and run.relu is relu
        and node.kwargs == {"fused": True}
        and conv.groups == 1
        and math.prod(conv.kernel_size) == 1
        and not any(conv.padding)
    )
