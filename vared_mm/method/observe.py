"""Looks at a model while it runs, and makes its gates answer as told; within `with` blocks.

Hooks do it, and are gone with the block: nothing is left on the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vared_mm.method.cost import CostRecord, Pass
from vared_mm.method.errors import DynamicError
from vared_mm.method.layer import _Dynamic


def dynamic_convs(model: nn.Module) -> dict[str, _Dynamic]:
    """The dynamic convolutions of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _Dynamic)}


@contextmanager
def record_cost(model: nn.Module) -> Iterator[CostRecord]:
    """Records what the model's dynamic convolutions compute."""
    record = CostRecord()
    with ExitStack() as stack:
        for name, conv in dynamic_convs(model).items():
            for handle in _observe(name, conv, record):
                stack.callback(handle.remove)
        yield record


def _observe(name: str, conv: _Dynamic, record: CostRecord) -> list[RemovableHandle]:
    answers: list[Tensor] = []

    def keep_answer(module: nn.Module, args: tuple, answer: Tensor) -> None:
        answers.append(answer)

    def note(module: nn.Module, args: tuple, out: Tensor) -> None:
        # An empty batch asks no gate and costs nothing.
        if answers:
            record.seen.append(Pass(name, conv, answers.pop(), tuple(out.shape)))

    return [conv.gate.register_forward_hook(keep_answer), conv.register_forward_hook(note)]


@contextmanager
def forced_gates(model: nn.Module, choices: Sequence[float]) -> Iterator[None]:
    """Every gate answers `choices`, the same for all samples.

    Args:
        choices: S numbers for each axis, channel first, as (0, 1, 1, 0): half the channels, all
            frames. A convolution with the channel axis alone takes the first S.
    """

    def force(module: nn.Module, args: tuple, answer: Tensor) -> Tensor:
        if len(choices) < answer.shape[1]:
            raise DynamicError(
                f"{len(choices)} choices are forced on a gate that has {answer.shape[1]}"
            )
        row = torch.tensor(choices, dtype=answer.dtype, device=answer.device)
        return row[: answer.shape[1]].expand(len(answer), -1)

    with ExitStack() as stack:
        for conv in dynamic_convs(model).values():
            # Before all other hooks, so that those see what is really used.
            stack.callback(conv.gate.register_forward_hook(force, prepend=True).remove)
        yield
