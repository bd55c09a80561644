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
from torch import Tensor
from torch.autograd import forward_ad
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
        self._definition = definition
        LIBRARY.impl(self._names[0], self._differentiated, "Autograd")

    def _differentiated(self, *arguments: Any) -> Tensor:
        form = [_form(v) for v in arguments]
        return _Differentiated.apply(self, form, *_tensors(arguments, form))

    def gradients(self, gradient: Tensor, inputs: Sequence[Any]) -> Sequence[Any]:
        """For each input, as torch finds them or quicker."""
        if self._quick is None or torch.is_grad_enabled():
            return _gradients(self._definition, inputs, gradient)
        return self._quick(gradient, *inputs)

    def quicken(self, backward: Callable[..., Sequence[Any]]) -> None:
        """Gives a gradient that is quicker than the definition's, and has none of its own.

        Args:
            backward: Takes the answer's gradient and the arguments, returns a gradient for each.
        """
        self._quick = backward


class _Differentiated(torch.autograd.Function):
    """Not `torch.library.register_autograd`, which takes longer than a kernel for lists."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, form: list[Any], *tensors: Tensor) -> Tensor:
        ctx.operator, ctx.form = operator, form
        ctx.save_for_backward(*tensors)
        return operator.overloads[1](*_filled(form, tensors))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        inputs = _filled(ctx.form, ctx.saved_tensors)
        found = ctx.operator.gradients(gradient, inputs)
        return None, None, *_tensors(found, ctx.form)


# Stands where a tensor is that autograd keeps.
_KEPT = object()


def _form(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
        return [_KEPT] * len(value)
    return _KEPT if isinstance(value, Tensor) else value


def _tensors(values: Sequence[Any], form: list[Any]) -> list[Any]:
    """What is where the form keeps tensors."""
    found = []
    for value, place in zip(values, form, strict=True):
        if place is _KEPT:
            found.append(value)
        elif isinstance(place, list) and _KEPT in place:
            found += value
    return found


def _filled(form: list[Any], tensors: Sequence[Tensor | None]) -> list[Any]:
    """The opposite of `_tensors`."""
    rest = iter(tensors)
    return [
        next(rest) if v is _KEPT
        else [next(rest) for _ in v] if isinstance(v, list) and _KEPT in v
        else v for v in form
    ]  # fmt: skip


def _gradients(definition: Callable, inputs: Sequence[Any], gradient: Tensor) -> Sequence[Any]:
    """As torch finds them, which can be differentiated again where that is asked for."""
    form, again = [_form(v) for v in inputs], torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: one input may have been made of another.
        aliases = [v.view_as(v) if v.requires_grad else v for v in _tensors(inputs, form)]
        answer = definition(*_filled(form, aliases))
    wanted = [v for v in aliases if v.requires_grad]
    found = iter(
        torch.autograd.grad(answer, wanted, gradient, create_graph=again, allow_unused=True)
    )
    return _filled(form, [next(found) if v.requires_grad else None for v in aliases])


def wants_torch_alone() -> bool:
    """Whether no operator of ours will do: what runs is written down for a place that lacks them
    (`is_exported`), or derives what they do not know (`is_transforming`).
    """
    if is_exported():
        return True
    return not torch.compiler.is_compiling() and is_transforming()


def is_transforming() -> bool:
    """Whether `torch.func` transforms or forward-mode derivatives are at work, of whatever: within
    them torch refuses an `autograd.Function` also for tensors that take no part."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_transformed(v: Tensor) -> bool:
    """Whether `torch.func` transforms it, or derivatives are carried along."""
    return torch.func.debug_unwrap(v) is not v or forward_ad.unpack_dual(v).tangent is not None


def is_exported() -> bool:
    """Whether `torch.jit.trace`, the ONNX exporters, `torch.export` or `make_fx` write down what
    runs."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    # Half a second to import; who traces has done that.
    tracer = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return torch.jit.is_tracing() or (tracer is not None and tracer.get_proxy_mode() is not None)


def recomputes() -> bool:
    """Whether this is a backward pass, in which activation checkpointing computes parts again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def uncompiled(run: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """What `run` answers, which torch.compile calls as it is and does not look into."""
    if torch.compiler.is_compiling():
        return torch.compiler.disable(run)(*arguments, **settings)
    return run(*arguments, **settings)
