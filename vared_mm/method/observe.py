"""Looks at a model while it runs, and makes its gates answer as told; within `with` blocks.

Hooks do it, and are gone with the block: nothing is left on the modules. They act on the passes of
the thread that the block is in, for several threads may share a model, or at times that they tell;
and on none of a copy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock, get_ident
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vared_mm.method import gated_conv
from vared_mm.method.config import AXES
from vared_mm.method.cost import CostRecord, Pass
from vared_mm.method.errors import DynamicError
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.layer import _Dynamic

Hook = Callable[[nn.Module, tuple, Any], Any]
When = Callable[[], bool]


def dynamic_convs(model: nn.Module) -> dict[str, _Dynamic]:
    """The dynamic convolutions of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _Dynamic)}


def gated_convs(model: nn.Module) -> dict[str, GatedConv]:
    """All convolutions that a gate decides for, those of rivals too, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, GatedConv)}


def in_this_thread() -> When:
    thread = get_ident()
    return lambda: get_ident() == thread


class Look:
    """A hook after the passes of a module, `when()`, by default those of this thread, until
    `remove()`.

    Models that were compiled before are looked at too.
    """

    _looks: ClassVar[set[Look]] = set()
    _lock = Lock()

    def __init__(
        self, module: nn.Module, hook: Hook, prepend: bool = False, when: When | None = None
    ) -> None:
        is_time = when or in_this_thread()

        def at_times(asked: nn.Module, args: tuple, out: Any) -> Any:
            # Copies that are made meanwhile have the hook too, and nobody takes it from them.
            return hook(asked, args, out) if asked is module and is_time() else None

        self._handle = module.register_forward_hook(at_times, prepend=prepend)
        with self._lock:
            self._looks.add(self)
            gated_conv.is_watched = True

    def remove(self) -> None:
        self._handle.remove()
        with self._lock:
            self._looks.discard(self)
            gated_conv.is_watched = bool(self._looks)


def unwatched(model: nn.Module) -> nn.Module:
    """The model, or, where it or what it was copied from is looked at, a copy without that."""
    if not any(map(_looks_at, model.modules())):
        return model
    model = copy.deepcopy(model)
    for module in model.modules():
        for key in _looks_at(module):
            del module._forward_hooks[key]
    return model


def _looks_at(module: nn.Module) -> list[int]:
    hooks = module._forward_hooks.items()
    return [key for key, hook in hooks if getattr(hook, "__module__", None) == __name__]


@contextmanager
def record_cost(model: nn.Module) -> Iterator[CostRecord]:
    """Records what the model's gates decide in this thread, or what a model that chooses otherwise
    tells by a `record_cost` of its own."""
    if own := getattr(model, "record_cost", None):
        with own() as record:
            yield record
        return
    record = CostRecord()

    def note(name: str, conv: GatedConv, gate: nn.Module, args: tuple, answer: Tensor) -> None:
        record.seen.append(Pass(name, conv, *conv.decision(args[0], answer)))

    with ExitStack() as stack:
        for name, conv in gated_convs(model).items():
            stack.callback(Look(conv.gate, partial(note, name, conv)).remove)
            # What fuses convolutions leaves those alone that have hooks, and calls their gates
            # with their own input.
            stack.callback(conv.register_forward_hook(_nothing).remove)
        yield record


def _nothing(*args: Any) -> None:
    """Compiled code may go past a convolution's own hooks; the gate's are always seen."""


@contextmanager
def forced_gates(
    model: nn.Module, choices: Sequence[float] | Mapping[str, Sequence[float]]
) -> Iterator[None]:
    """Every gate answers `choices`, the same for all samples, in this thread.

    Args:
        choices: S numbers for each axis, channel first, as (0, 1, 1, 0): half the channels, all
            frames. A convolution with one axis takes that one's. Or such numbers for each
            convolution, by name.

    Raises:
        DynamicError: They are too few or too many, negative or not finite, or open no path of an
            axis; or a convolution has none.
    """
    convs = dynamic_convs(model)
    of_each = choices if isinstance(choices, Mapping) else dict.fromkeys(convs, choices)
    if lacking := [name for name in convs if name not in of_each]:
        raise DynamicError(f"no choices are forced on {lacking[0]}; wanted some for {[*convs]}")
    own = {name: own_choices(name, conv, of_each[name]) for name, conv in convs.items()}

    def force(name: str, module: nn.Module, args: tuple, answer: Tensor) -> Tensor:
        row = torch.tensor(own[name], dtype=answer.dtype, device=answer.device)
        return row.expand(len(answer), -1)

    with ExitStack() as stack:
        for name, conv in convs.items():
            # Before all other hooks, so that those see what is really used.
            stack.callback(Look(conv.gate, partial(force, name), prepend=True).remove)
        yield


def own_choices(name: str, conv: _Dynamic, choices: Sequence[float]) -> list[float]:
    """The numbers of the convolution's axes."""
    space = conv.dynamic.search_space
    # Of a text each letter would be a number.
    given: Any = (None,) if isinstance(choices, str) else choices
    try:
        choices = [float(v) for v in given]
    except (TypeError, ValueError):
        raise DynamicError(
            f"{choices!r} is forced on {name}; wanted {space} numbers from 0 up for each of "
            f"{conv.axes}, as {(0, *[1] * (space - 1)) * len(conv.axes)}"
        ) from None
    of_axes = [list(choices[i : i + space]) for i in range(0, len(choices), space)]
    if len(choices) == len(AXES) * space:
        of_axes = [own for axis, own in zip(AXES, of_axes, strict=True) if axis in conv.axes]
    elif len(choices) != len(conv.axes) * space:
        raise DynamicError(
            f"{len(choices)} choices are forced on {name}, whose gate has "
            f"{len(conv.axes) * space}: {space} for each of {conv.axes}"
        )
    for axis, own in zip(conv.axes, of_axes, strict=True):
        if not all(math.isfinite(v) and v >= 0 for v in own) or not any(own):
            raise DynamicError(
                f"the choices {tuple(own)} are forced on the {axis} axis of {name}; wanted numbers "
                "from 0 up, of which one at least opens a path"
            )
    return [v for own in of_axes for v in own]
