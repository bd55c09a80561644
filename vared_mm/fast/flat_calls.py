"""A traced graph as one function, which calls what is prepared without asking modules the way.

A module finds each of its children by a call in Python, and passes six more before what stands for
a convolution's `forward` computes anything: together as long as a small convolution takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from types import SimpleNamespace

from torch import Tensor, fx, nn

from vared_mm.fast.prepared_forward import has_hooks


def flat_function(graph: fx.GraphModule) -> Callable:
    """What `graph.forward` does, for the modules and tensors that the graph has now."""
    found, nodes = SimpleNamespace(), copy.deepcopy(graph.graph)
    for name in ("_in_spec", "_out_spec"):  # Of inputs that are no tensors.
        if name in vars(graph):
            setattr(found, name, vars(graph)[name])
    for i, node in enumerate(nodes.nodes):
        if node.op in ("call_module", "get_attr"):
            value = attrgetter(str(node.target))(graph)
            if node.kwargs.get("fused"):
                value, node.kwargs = partial(fused_call, value), {}
            node.target = f"found_{i}"
            setattr(found, node.target, value)
    code = nodes.python_code("self")
    exec(code.src, code.globals)
    return partial(code.globals["forward"], found)


def fused_call(conv: nn.Module, x: Tensor, *other: Tensor) -> Tensor:
    """`conv(x, *other, fused=True)` of a prepared convolution."""
    run = getattr(conv.forward, "fused", None)
    if run is None or has_hooks(conv):  # Somebody looks at it.
        return conv(x, *other, fused=True)
    return run(x, *other)
