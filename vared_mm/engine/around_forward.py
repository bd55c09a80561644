"""Something to do before and after each forward pass of a model in one of mmengine's modes.

mmengine runs its hooks outside the forward pass, and after the backward one: what adds to the
losses or to the predictions has to hook the model itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn

Finish = Callable[[Any], Any]
Watch = Callable[[ExitStack, dict[str, Any]], Finish]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a distributed wrapper; its forward pass runs within the wrapper's."""
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


def around_forward(model: nn.Module, mode: str, watch: Watch) -> Callable[[], None]:
    """Calls `watch(stack, kwargs)` before each forward pass with `mode=mode`.

    It enters its contexts on the stack, which is closed after the pass, also after a failing one,
    and returns a function that makes the final result from the model's.

    Returns:
        A function that ends the watching.
    """
    running: list[tuple[ExitStack, Finish]] = []

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if kwargs.get("mode") == mode:
            with ExitStack() as stack:
                finish = watch(stack, kwargs)
                running.append((stack.pop_all(), finish))

    def after(module: nn.Module, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
        if kwargs.get("mode") != mode or not running:
            return None
        stack, finish = running.pop()
        stack.close()
        return None if result is None else finish(result)

    handles = (
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, with_kwargs=True, always_call=True),
    )

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end
