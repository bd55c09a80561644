"""Squeeze and excitation, with the Swish after it: two passes over the maps, squeeze_excite.cpp.

As X3D's blocks have it: x · sigmoid(W2 · relu(W1 · mean(x))).
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from vared_mm.fast.fused_conv import StaticConv
from vared_mm.fast.graph import SIGMOIDS, has_hooks, only_user, written_between
from vared_mm.kernels.loading import Source, loaded
from vared_mm.method.equations import LAYOUTS

SOURCE = Source.read(Path(__file__).with_name("squeeze_excite.cpp"))
LANES = 16


class ExcitationStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "hidden", "swish")),
        *((name, c_void_p) for name in ("weight1", "bias1", "weight2", "bias2")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.native`."""
    maps = c_void_p, c_long, c_long, c_void_p
    return loaded(SOURCE, squeeze_excite=(POINTER(ExcitationStruct), *maps, c_long))


class SqueezeExcite(nn.Module):
    """Made of the two prepared convolutions, whose weights it reads."""

    def __init__(self, first: nn.Module, second: nn.Module, swish: bool) -> None:
        super().__init__()
        self.first, self.second, self.swish = first, second, swish
        packed = [cast(Any, conv.forward).run.packed for conv in (first, second)]
        self._ndim = packed[0].weight.ndim
        self._kept = [
            v.float().flatten(int(v.ndim > 1)).contiguous()
            for p in packed
            for v in (p.weight, p.bias)
        ]
        weight1 = self._kept[0]
        self._struct = ExcitationStruct(
            weight1.shape[1], len(weight1), swish, *(v.data_ptr() for v in self._kept)
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self._kernel_serves(x):
            gate = x.mean(tuple(range(2, x.ndim)), keepdim=True)
            gate = self.second(self.first(gate, fused=True), fused=True)
            x = x * gate.sigmoid()
            return F.silu(x) if self.swish else x
        kernels = library()
        assert kernels is not None
        out = torch.empty_like(x)
        pixels, threads = math.prod(x.shape[2:]), torch.get_num_threads()
        kernels.squeeze_excite(
            self._struct, x.data_ptr(), x.shape[0], pixels, out.data_ptr(), threads
        )
        return out

    def _kernel_serves(self, x: Tensor) -> bool:
        return (
            x.dtype == torch.float32
            and x.device.type == "cpu"
            and x.ndim == self._ndim
            and x.shape[1] == self._struct.channels >= LANES
            and x.is_contiguous(memory_format=LAYOUTS[x.ndim])
            and not (x.requires_grad and torch.is_grad_enabled())
            and not (has_hooks(self.first) or has_hooks(self.second))
            and library() is not None
        )


class Found(NamedTuple):
    """One squeeze and excitation: what it reads, its two convolutions, and all of its nodes."""

    x: fx.Node
    first: fx.Node
    second: fx.Node
    nodes: list[fx.Node]
    swish: bool


def fuse_squeeze_excite(graph: fx.GraphModule) -> None:
    """Lets one call stand for each, after its convolutions have been prepared."""
    for found in list(excitations(graph)):
        first, second = (graph.get_submodule(str(n.target)) for n in (found.first, found.second))
        name = f"{found.first.target}_and_excite"
        graph.add_submodule(name, SqueezeExcite(first, second, found.swish))
        with graph.graph.inserting_before(found.nodes[-1]):
            found.nodes[-1].replace_all_uses_with(graph.graph.call_module(name, (found.x,)))
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
                swish = [user] if user is not None and user.target is F.silu else []
                if not written_between(pool, [node, *swish][-1], modules):
                    yield Found(x, first, second, [*chain, node, *swish], bool(swish))
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
