"""Something to do before and after each forward pass of a model in one of mmengine's modes.

mmengine runs its hooks outside the forward pass, and after the backward one: what adds to the
losses or to the predictions has to hook the model itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from vared_mm.engine.told_gates import ToldAgain
from vared_mm.method.errors import DynamicError
from vared_mm.method.operators import uncompiled

Finish = Callable[[Any], Any]
# From a stack of contexts and the pass's arguments by name.
Watch = Callable[[ExitStack, dict[str, Any]], Finish]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside distributed wrappers and test-time augmentation, which call it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module  # type: ignore[assignment]
    return model


def augmenting(model: nn.Module) -> BaseTTAModel | None:
    """The test-time augmentation inside distributed wrappers, if there is one."""
    while is_model_wrapper(model):
        model = model.module  # type: ignore[assignment]
    return model if isinstance(model, BaseTTAModel) else None


class Watching:
    """The watching of a model's passes in one mode. Calling it ends it; `seen` counts passes."""

    def __init__(self, model: nn.Module, mode: str, watch: Watch) -> None:
        self.model, self.mode, self.watch, self.seen = model, mode, watch, 0
        self._running: list[tuple[int, ExitStack, Finish]] = []
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]

    def __call__(self) -> None:
        for handle in self._handles:
            handle.remove()

    def refuse_unseen(self, hook: str) -> None:
        """After an iteration: raises `DynamicError` if none of its passes was seen."""
        if not self.seen:
            kind = type(self.model).__name__
            raise DynamicError(
                f"{hook} acts on {kind}(..., mode={self.mode!r}), and an iteration ended without "
                f"such a call: its step calls self.{self.mode}() or self.forward() directly, past "
                "the hooks of torch, or runs code that was compiled before. Let it call "
                f"self(inputs, data_samples, mode={self.mode!r}), or leave {hook} and `compile` "
                "out of the config"
            )

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        uncompiled(self._start, args, kwargs)

    def _start(self, args: tuple, kwargs: dict[str, Any]) -> None:
        arguments = arguments_by_name(self.model, args, kwargs)
        if arguments.get("mode") == self.mode:
            with ExitStack() as stack:
                finish = self.watch(stack, arguments)
                self._running.append((get_ident(), stack.pop_all(), finish))

    def _after(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
        return uncompiled(self._end, args, kwargs, result)

    def _end(self, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
        mine = [one for one in self._running if one[0] == get_ident()]
        if not mine or arguments_by_name(self.model, args, kwargs).get("mode") != self.mode:
            return None
        self._running.remove(mine[-1])
        _, stack, finish = mine[-1]
        stack.close()
        if result is None:
            return None
        self.seen += 1
        return finish(result)


def around_forward(model: nn.Module, mode: str, watch: Watch) -> Watching:
    """Calls `watch(stack, arguments)` before each call of the model with `mode=mode`, by keyword
    or position.

    It enters its contexts on the stack, which is closed after the pass, also after a failing one,
    and returns a function that makes the final result from the model's.
    """
    return Watching(model, mode, watch)


def around_steps(runner: Runner, mode: str, watch: Watch) -> Watching:
    """`around_forward` for a runner that is about to begin. Code that mmengine's `compile` made
    before, for another runner of this process, would not see the hooks and is made anew."""
    if runner.cfg.get("compile"):
        torch.compiler.reset()
    return around_forward(unwrapped(runner.model), mode, watch)


def refuse_twice(hook: Hook, runner: Runner) -> None:
    """What a second one does would take the place of what the first did."""
    kind = type(hook)
    if (count := sum(type(one) is kind for one in runner.hooks)) > 1:
        raise ValueError(
            f"custom_hooks has {kind.__name__} {count} times, each of which would undo the "
            "others; leave one"
        )


class LossWatchingHook(Hook):
    """A hook that acts on the passes for the loss, from the beginning of a training to its end."""

    _watching: Watching | None = None

    def watch(self, runner: Runner, watch: Watch) -> None:
        self.after_train(runner)  # of a training that failed
        self._again, self._watching = ToldAgain(), around_steps(runner, "loss", watch)

    @property
    def is_at_first_pass(self) -> bool:
        return not (self._watching and self._watching.seen)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        if self._watching:
            self._again.end()
            self._watching.refuse_unseen(type(self).__name__)

    def after_train(self, runner: Runner) -> None:
        if self._watching:
            self._again.end()
            self._watching()
        self._watching = None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation, and afterwards each module as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def arguments_by_name(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names, with defaults; empty where they do not fit."""
    try:
        bound = inspect.signature(type(model).forward).bind(model, *args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    arguments.pop(next(iter(arguments)))
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
    return arguments


def batches_of(arguments: Mapping[str, Any]) -> list[list[Any]]:
    """The data samples of each batch of a pass.

    Most often one, `data_samples`. Several come by name (`data_samples` is a dict of batches) or,
    as from MMAction2's loops of several loaders, as dicts that hold `data_samples` each.
    """
    samples = arguments.get("data_samples")
    if isinstance(samples, Mapping):
        return [list(batch) for batch in samples.values()]
    if samples is not None:
        return [list(samples)]
    found = [list(one["data_samples"]) for one in parts(arguments) if "data_samples" in one]
    if not found:
        raise DynamicError(
            f"a pass came without data_samples, whose cost is to be told; it has {list(arguments)}"
        )
    return found


def model_inputs(arguments: Mapping[str, Any]) -> Any:
    """What goes through the network: `inputs`, or all of them."""
    if "inputs" in arguments:
        return arguments["inputs"]
    batches = [one["inputs"] for one in parts(arguments) if "inputs" in one]
    others = [value for name, value in arguments.items() if name not in ("data_samples", "mode")]
    return batches or others[:1]


def parts(arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The dicts among the arguments, and in their lists."""
    for value in arguments.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Mapping):
                yield one
