"""Modules as graphs, by torch.fx: the whole where it can be traced, else its parts by themselves.

What a trace cannot hold as it is stays with the module's own `forward`: tensors that it makes, what
it keeps on a module, hooks.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from functools import partialmethod
from threading import Lock, get_ident
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import inplace_methods
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.kept import Kept
from vared_mm.fast.packed_conv import is_packable
from vared_mm.fast.prepared_forward import PreparedForward, has_hooks


def _written(name: str) -> Callable:
    """`x += y` and the like, as a function."""
    operation = getattr(operator, name)

    # For operator.iadd itself torch.fx writes code that changes x also where it is a number.
    def write(x: Any, y: Any) -> Any:
        return operation(x, y)

    write.__name__ = name
    return write


# Two at a time would each leave the other's exchanged calls behind.
TRACING = Lock()
WRITES = {name: _written(name) for name in inplace_methods if name != "setitem"}


class Writable(fx.Proxy):
    """Writes where a tensor does: torch.fx makes `x + y` of `x += y`, which leaves as it is what
    else has the memory of x."""

    def __hash__(self) -> int:
        # By it a set or a dict would say that it does not know the number.
        raise fx.proxy.TraceError("its forward looks a number of its inputs up")

    def write(self, how: Callable, y: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", how, (self, y), {})


for _name, _write in WRITES.items():
    setattr(Writable, f"__{_name}__", partialmethod(Writable.write, _write))


class ConvTracer(fx.Tracer):
    """Looks into everything but convolutions and norms, which toolboxes derive from torch's."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Writable(node, self)

    def call_module(self, m: nn.Module, forward: Callable, args: Any, kwargs: Any) -> Any:
        # torch.fx exchanges the call of modules for all threads.
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        is_exact = isinstance(module, nn.Linear) and isinstance(module.forward, PreparedForward)
        known = isinstance(module, _ConvNd | _BatchNorm) or is_exact
        return known or super().is_leaf_module(module, name)

    def create_arg(self, a: Any) -> Any:
        arg = super().create_arg(a)
        if isinstance(arg, fx.Node) and str(arg.target).startswith("_tensor_constant"):
            # In a graph it is one for all calls, and what is written into it stays.
            raise fx.proxy.TraceError("its forward makes a tensor that depends on no input")
        return arg


def traced(module: nn.Module) -> fx.GraphModule:
    """The module as a graph, or whatever exception its `forward` meets with proxies."""
    inner = [m for m in module.modules() if m is not module and not is_leaf(m)]
    if any(map(has_hooks, inner)):
        raise fx.proxy.TraceError("a module inside has hooks, which tracing would run only once")
    # What it asks is asked once: whether gradients are on, the time, a number that is drawn.
    with_gradients, graph = (traced_once(module, gradients) for gradients in (True, False))
    if str(with_gradients) != str(graph):
        raise fx.proxy.TraceError("its forward does something else with gradients, or each time")
    return fx.GraphModule(module, graph)


def traced_once(module: nn.Module, gradients: bool) -> fx.Graph:
    kept = Kept(module)
    try:
        with TRACING, torch.set_grad_enabled(gradients):
            graph = ConvTracer().trace(module, concrete_args=flags_of(module))
    finally:
        is_changed = kept.put_back()
    if is_changed:
        raise fx.proxy.TraceError("its forward keeps something, which a graph would not")
    return graph


def traced_parts(module: nn.Module) -> Iterator[tuple[nn.Module, fx.GraphModule]]:
    """The module with its graph where it can be traced, else its parts with theirs."""
    if not any(is_packable(m) for m in module.modules()):
        return
    try:
        if _is_walked_through(module):
            raise fx.proxy.TraceError("its parent may call the parts one by one")
        if "forward" in vars(module):
            raise fx.proxy.TraceError("it was given another forward, and a trace is of its class's")
        graph = traced(module)
    except Exception:
        # Whatever a forward does with a proxy that it would not do with a tensor.
        yield from parts_within(module)
        return
    yield module, graph


def parts_within(module: nn.Module) -> Iterator[tuple[nn.Module, fx.GraphModule]]:
    for child in module.children():
        if not is_leaf(child):
            yield from traced_parts(child)


def _is_walked_through(module: nn.Module) -> bool:
    containers = nn.Sequential | nn.ModuleList | nn.ModuleDict
    return isinstance(module, containers) and not all(map(is_leaf, module.children()))


def flags_of(module: nn.Module) -> dict[str, bool | None]:
    """What its `forward` asks about with `if`, like the switches of mmcv's ConvModule and inputs
    that may be missing, as it is by default.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, bool | None)}


def is_leaf(module: nn.Module) -> bool:
    return ConvTracer().is_leaf_module(module, "")
