"""In which precision a prepared model's maps lie: its own, or bfloat16 where that is faster."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map, tree_map_only

from vared_mm.fast.prepared_forward import PreparedForward
from vared_mm.fast.recorder import unrepeatable
from vared_mm.method.equations import LAYOUTS

PRECISIONS = ("auto", "float32", "bfloat16")


def maps_of(model: nn.Module, precision: str) -> torch.dtype | None:
    """What the maps of a float32 model on a CPU are cast to; None where they stay as they are.

    Raises:
        ValueError: There is no such precision, or the model is not one that it is for.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; came {precision!r}")
    if precision == "float32" or (precision == "auto" and not computes_in_bfloat16()):
        return None
    kinds = {(p.device.type, p.dtype) for p in model.parameters() if p.is_floating_point()}
    if kinds <= {("cpu", torch.float32)}:
        return torch.bfloat16
    if precision == "auto":
        return None
    found = ", ".join(f"{dtype} on {device}" for device, dtype in sorted(kinds, key=str))
    raise ValueError(
        f"precision='bfloat16' is for a model whose weights are float32 on a CPU; came {found}. On "
        "a GPU prepare model.bfloat16(), here model.float()"
    )


@cache
def computes_in_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16: has AMX or AVX512-BF16."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def as_maps(dtype: torch.dtype, x: Tensor) -> Tensor:
    """Maps in float32 in another precision, channels last; all else as it is."""
    is_map = x.dtype == torch.float32 and x.ndim in LAYOUTS
    # One after the other: for both at once torch has no fast loop.
    return x.to(dtype).contiguous(memory_format=LAYOUTS[x.ndim]) if is_map else x


def as_answer(x: Any) -> Any:
    """Tensors in bfloat16 in float32, in containers and dataclasses too; all else as it is."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype == torch.bfloat16 else x
    if not is_dataclass(x) or isinstance(x, type):
        return x
    new = copy.copy(x)
    for name in (field.name for field in fields(x) if hasattr(x, field.name)):
        # Also where it is frozen.
        object.__setattr__(new, name, tree_map(as_answer, getattr(x, name)))
    return new


class ExactLinear(PreparedForward):
    """A linear layer in float32: scores of bfloat16 have 8 bits, and classes would tie."""

    def __init__(self, linear: nn.Linear) -> None:
        self.plain = exactly(linear.forward)
        # Derived classes may do more, which no recording sees.
        known = type(linear).__module__.startswith(("torch.", "mmcv."))
        self.is_known = known or type(linear).forward is nn.Linear.forward

    def compute(self, *inputs: Any, **settings: Any) -> Any:
        if not self.is_known:
            unrepeatable()
        return self.plain(*inputs, **settings)


def exactly(run: Callable) -> Callable:
    """The same in float32, whatever precision surrounds it."""

    def exact(*inputs: Any, **settings: Any) -> Any:
        inputs, settings = tree_map_only(Tensor, as_answer, (inputs, settings))
        with torch.autocast("cpu", enabled=False):
            return run(*inputs, **settings)

    exact.__name__ = f"exact_{getattr(run, '__name__', '')}"
    return exact


PRODUCTS = {
    target: exactly(run)
    for run in (F.linear, torch.matmul, torch.mm, torch.addmm, torch.einsum)
    for target in (run, run.__name__)
}
PRODUCTS[operator.matmul] = PRODUCTS[torch.matmul]


def keep_products_exact(graph: fx.GraphModule) -> None:
    """Linear layers that are written as products with a parameter stay in float32 too."""
    # What is made of parameters alone.
    fixed: set[fx.Node] = set()
    for node in graph.graph.nodes:
        made_of = node.all_input_nodes
        if node.op == "get_attr" or (made_of and fixed.issuperset(made_of)):
            fixed.add(node)
        called = node.op in ("call_function", "call_method")
        if called and node.target in PRODUCTS and not fixed.isdisjoint(made_of):
            node.op, node.target = "call_function", PRODUCTS[node.target]
