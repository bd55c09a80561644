"""Finds what follows each convolution of a graph, and lets the convolution do it.

A BatchNorm, an addition and a ReLU are taken over only where the graph shows that nothing else
reads what stands between them.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.graph import inplace_methods
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.packed_conv import is_packable
from vared_mm.fast.prepared_forward import has_hooks
from vared_mm.fast.tracing import WRITES
from vared_mm.kernels.squeeze_excite import swish
from vared_mm.method.gate import FollowerGate

ADDS_TO = {WRITES["iadd"], "add_"}
ADDS = {operator.add, torch.add, "add", *ADDS_TO}
# What they answer has memory of its own.
FRESH = {operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.mul}
SIGMOIDS = {torch.sigmoid, F.sigmoid, "sigmoid"}
RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}


@dataclass
class Chain:
    """A convolution and what it can take over, in the order of computation."""

    conv: fx.Node
    norm: fx.Node | None = None
    add: fx.Node | None = None
    relu: fx.Node | None = None
    other: fx.Node | None = None
    nodes: list[fx.Node] = field(default_factory=list)

    def __str__(self) -> str:
        parts = {"norm": self.norm, "add": self.add, "relu": self.relu}
        return " + ".join(["conv", *(name for name, node in parts.items() if node is not None)])


def chains(graph: fx.GraphModule) -> Iterator[Chain]:
    """Every convolution that can be prepared, each called once; followers as far as they go.

    Each is to be fused before the next is asked for: two convolutions may meet in one addition.
    """
    modules = dict(graph.named_modules())
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    for node in calls:
        plain = len(node.args) == 1 and not node.kwargs and is_packable(modules[node.target])
        if plain and times[node.target] == 1:
            yield _followed(Chain(node, nodes=[node]), modules)


def _followed(chain: Chain, modules: dict[str, nn.Module]) -> Chain:
    conv = modules[str(chain.conv.target)]
    if conv._forward_hooks:
        return chain
    user = only_user(chain.conv)
    if user is not None and _is_norm_of(user, conv, modules):
        chain.norm = user
        chain.nodes.append(user)
        user = only_user(user)
    if user is not None and (other := _added(user, chain.nodes[-1], modules)) is not None:
        between = _between(chain.conv, user)
        between = [node for node in between if node not in chain.nodes]
        if not any(_writes_in_place(n, modules) or follows(n, conv, modules) for n in between):
            chain.add, chain.other = user, other
            chain.nodes.append(user)
            user = only_user(user)
    if user is not None and _is_relu(user, modules):
        chain.relu = user
        chain.nodes.append(user)
    return chain


def fuse(graph: fx.GraphModule, chain: Chain) -> None:
    """Lets the convolution's node stand for the whole chain: `conv(x, other, fused=True)`."""
    # An addition needs its other side, which may come after the convolution.
    with graph.graph.inserting_before(chain.add or chain.conv):
        arguments = (chain.conv.args[0], *([] if chain.other is None else [chain.other]))
        new = graph.graph.call_module(str(chain.conv.target), arguments, {"fused": True})
    chain.nodes[-1].replace_all_uses_with(new)
    for node in reversed(chain.nodes):
        graph.graph.erase_node(node)


def fuse_silu(graph: fx.GraphModule, fresh: set[fx.Node]) -> None:
    """x · sigmoid(x), which X3D's Swish takes three passes over the maps for, in one; and in the
    memory of x, where that is a convolution's output, which nobody else reads."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is F.silu:
            node.target = swish
            continue
        if node.target not in (operator.mul, torch.mul) or node.kwargs:
            continue
        for x, gate in (node.args, node.args[::-1]):
            # A module's name may be any word.
            is_function = isinstance(gate, fx.Node) and gate.op != "call_module"
            sigmoid = is_function and gate.target in SIGMOIDS
            if sigmoid and gate.args == (x,) and not gate.kwargs and list(gate.users) == [node]:
                if written_between(gate, node, modules):
                    break
                own = isinstance(x, fx.Node) and set(x.users) == {gate, node}
                how: dict[str, Any] = {"inplace": True} if own and x in fresh else {}
                with graph.graph.inserting_before(node):
                    node.replace_all_uses_with(graph.graph.call_function(swish, (x,), how))
                graph.graph.erase_node(node)
                graph.graph.erase_node(gate)
                break


def only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_norm_of(node: fx.Node, conv: nn.Module, modules: dict[str, nn.Module]) -> bool:
    norm = modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        isinstance(norm, _BatchNorm)
        # Derived classes may do more, as those with an activation.
        and type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and "forward" not in vars(norm)
        and not norm.training
        and norm.running_mean is not None
        and norm.num_features == conv.out_channels
        and not has_hooks(norm)
    )


def _added(node: fx.Node, own: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """What `node` adds to `own`, if it does that and nobody sees it write into anything else."""
    if node.op not in ("call_function", "call_method") or node.target not in ADDS or node.kwargs:
        return None
    first, second = node.args[:2] if len(node.args) == 2 else (None, None)
    if second is own and (node.target not in ADDS_TO or _is_alone(first, modules)):
        first, second = second, first
    other = second if first is own and second is not own else None
    return other if isinstance(other, fx.Node) else None


def _is_alone(node: Any, modules: dict[str, nn.Module]) -> bool:
    """Whether one node alone reads its answer, in memory that is nothing else's."""
    if not isinstance(node, fx.Node) or only_user(node) is None:
        return False
    if _is_relu(node, modules):
        # In place, perhaps.
        return _is_alone(node.args[0], modules)
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _ConvNd | _BatchNorm)
    return node.op == "call_function" and node.target in FRESH


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return type(module) is nn.ReLU and not has_hooks(module) and "forward" not in vars(module)
    return node.op in ("call_function", "call_method") and node.target in RELUS


def _between(first: fx.Node, last: fx.Node) -> list[fx.Node]:
    nodes = list(first.graph.nodes)
    return nodes[nodes.index(first) + 1 : nodes.index(last)]


def written_between(first: fx.Node, last: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether something may be overwritten after `first` and before `last`."""
    return any(_writes_in_place(node, modules) for node in _between(first, last))


def _writes_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether moving a read past `node` could change what is read; in doubt, yes."""
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name.endswith("_") or name in inplace_methods
    # The switch of functionals like relu, by its name or by its place.
    told = bool(node.kwargs.get("inplace")) or any(arg is True for arg in node.args)
    return node.op != "get_attr" and (in_place or told or "out" in node.kwargs)


def follows(node: fx.Node, conv: nn.Module, modules: dict[str, nn.Module]) -> bool:
    """Whether `node` is a convolution that reads the answer of the gate of `conv`."""
    gate = getattr(modules.get(str(node.target)), "gate", None)
    return isinstance(gate, FollowerGate) and gate.leader is getattr(conv, "gate", None)
