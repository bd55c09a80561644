"""What the method asks of kernels, as operators of torch; and what those are without any kernel.

An operator has a schema, a form in torch's own operations that serves every device and type, a
gradient, and the FLOPs that it takes. `vared_mm.kernels` adds forms of its own for a device. Torch
decides who runs, and whatever traces, counts or transforms operations sees these too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.flop_counter import register_flop_formula

LIBRARY = torch.library.Library("vared_mm", "FRAGMENT")


class Operator:
    """One operator, in two overloads of a name: torch's autograd of operators that are written in
    Python takes longer than a kernel, so what no gradient is asked of goes around it.

    Args:
        schema: As of `torch.library.Library.define`.
        by_torch: What it computes, by operations that torch has on every device.
        fake: An answer without numbers, of the right shape, type and layout.
        flops: Of its arguments, with shapes in place of tensors; a MAC is two.
    """

    def __init__(
        self, schema: str, by_torch: Callable, fake: Callable, flops: Callable[..., int]
    ) -> None:
        name, rest = schema.split("(", 1)
        self._names = (name, f"{name}.without_gradient")
        for overload in self._names:
            LIBRARY.define(f"{overload}({rest}")
            torch.library.register_fake(f"vared_mm::{overload}", fake, lib=LIBRARY)
        self.serve("CompositeExplicitAutograd", by_torch)
        packet = getattr(torch.ops.vared_mm, name)
        register_flop_formula(packet)(lambda *args, out_shape=None: flops(*args))
        self.overloads = packet.default, packet.without_gradient
        self._quick: Callable[..., Sequence[Any]] | None = None

    def __call__(self, *arguments: Any) -> Any:
        return self.overloads[not torch.is_grad_enabled()](*arguments)

    def serve(self, device: str, form: Callable) -> None:
        """Lets `form` answer on a device, "CPU" or "CUDA"."""
        for overload in self._names:
            LIBRARY.impl(overload, form, device)

    def differentiate(self, definition: Callable) -> None:
        """Gives it a gradient.

        Args:
            definition: The same function, in operations that torch differentiates as often as
                wanted.
        """

        def keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
            ctx.save_for_backward(*(v for v in tree_leaves(inputs) if isinstance(v, Tensor)))
            ctx.inputs = tree_map_only(Tensor, lambda _: _SAVED, inputs)

        def back(ctx: Any, gradient: Tensor) -> tuple:
            saved = iter(ctx.saved_tensors)
            inputs = tree_map(lambda v: next(saved) if v is _SAVED else v, ctx.inputs)
            if self._quick is None or torch.is_grad_enabled():
                return _gradients(definition, inputs, gradient)
            return tuple(self._quick(gradient, *inputs))

        name = f"vared_mm::{self._names[0]}"
        torch.library.register_autograd(name, back, setup_context=keep, lib=LIBRARY)

    def quicken(self, backward: Callable[..., Sequence[Any]]) -> None:
        """Gives a gradient that is quicker than the definition's, and has none of its own.

        Args:
            backward: Takes the answer's gradient and the arguments, returns a gradient for each.
        """
        self._quick = backward


# Stands where a tensor is that autograd keeps.
_SAVED = object()


def _gradients(definition: Callable, inputs: tuple, gradient: Tensor) -> tuple:
    """As torch finds them, which can be differentiated again where that is asked for."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: one input may have been made of another.
        inputs = tree_map_only(Tensor, lambda v: v.view_as(v) if v.requires_grad else v, inputs)
        wanted = [v for v in tree_leaves(inputs) if isinstance(v, Tensor) and v.requires_grad]
        answer = definition(*inputs)
    found = torch.autograd.grad(answer, wanted, gradient, create_graph=again, allow_unused=True)
    by_input = {id(v): g for v, g in zip(wanted, found, strict=True)}

    def of(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
            return [of(v) for v in value]
        return by_input.get(id(value))

    return tuple(map(of, inputs))


def wants_torch_alone(*tensors: Tensor) -> bool:
    """Whether no operator of ours will do: what runs is written down for a place that lacks them
    (`is_exported`), `torch.func` transforms it, or derivatives are carried along.
    """
    if is_exported():
        return True
    if torch.compiler.is_compiling():
        return False
    # What is transformed is a parameter no more.
    return any(type(v) is not nn.Parameter and _is_transformed(v) for v in tensors)


def _is_transformed(v: Tensor) -> bool:
    return torch.func.debug_unwrap(v) is not v or forward_ad.unpack_dual(v).tangent is not None


def is_exported() -> bool:
    """Whether `torch.jit.trace`, the ONNX exporters, `torch.export` or `make_fx` write down what
    runs."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    # Half a second to import; who traces has done that.
    tracer = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return torch.jit.is_tracing() or (tracer is not None and tracer.get_proxy_mode() is not None)


def uncompiled(run: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """What `run` answers, which torch.compile calls as it is and does not look into."""
    if torch.compiler.is_compiling():
        return torch.compiler.disable(run)(*arguments, **settings)
    return run(*arguments, **settings)
