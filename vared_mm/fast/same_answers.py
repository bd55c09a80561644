"""Whether a prepared model answers as the one it was made from, whatever its gates choose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from itertools import product
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.fast.kept import Kept
from vared_mm.fast.tf32 import rounds_to_tf32
from vared_mm.method.config import AXES
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.layer import _Dynamic
from vared_mm.rivals.frame_policy import FramePolicy

# Of the largest number of an output. In half precision, and in TF32, which has as short a mantissa,
# a gate near zero may turn over.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
HALF_TOLERANCE = 0.2

OPENED = "all", "least"
# What each axis opens, channel first; None leaves the choice to the gate.
Choice = tuple[str, str] | None


def answers_of(
    model: nn.Module, example: tuple, call: dict, half: bool = False
) -> dict[Choice, Any]:
    """To the example: with the gates' own choices, with all paths open, and with the least one of
    each axis. Own choices are left out with maps in `half` precision, where a gate near zero may
    turn over. What the model keeps of the calls is put back.
    """
    return dict(answers_by(model, example, call, half))


def answers_by(
    model: nn.Module, example: tuple, call: dict, half: bool = False
) -> Iterator[tuple[Choice, Any]]:
    """`answers_of`, one after the other."""
    kept, ways = Kept(model), ways_to_open(model)
    try:
        for choice in ways[1:] if half and len(ways) > 1 else ways:
            inputs, words = copied((example, call))
            with chosen(model, choice), torch.random.fork_rng(devices=[]):
                # Where gates draw, all are to draw the same.
                torch.default_generator.manual_seed(0)
                answer = model(*inputs, **words)
            yield choice, answer
    finally:
        kept.put_back()


def copied(inputs: Any) -> Any:
    """The inputs of a call, for one that may overwrite them; what is one tensor twice stays one."""
    made: dict[int, Tensor] = {}
    for x in tree_leaves(inputs):
        if isinstance(x, Tensor) and id(x) not in made:
            made[id(x)] = x.clone()
    return tree_map_only(Tensor, lambda x: made[id(x)], inputs)


def ways_to_open(model: nn.Module) -> list[Choice]:
    convs = [m for m in model.modules() if isinstance(m, _Dynamic)]
    if not any(isinstance(m, GatedConv | FramePolicy) for m in model.modules()):
        return [None]
    if any(len(conv.axes) == 2 for conv in convs):
        return [None, *product(OPENED, OPENED)]
    return [None, ("all", "all"), ("least", "least")]


@contextmanager
def chosen(model: nn.Module, choice: Choice) -> Iterator[None]:
    """The gates answer with `choice`; an axis's numbers come to 1, so that maps keep their size.
    What chooses sizes of frames takes the largest for all of them, or the least."""
    with ExitStack() as stack:
        for module in model.modules():
            if choice is not None and isinstance(module, GatedConv | FramePolicy):
                asked = module.gate if isinstance(module, GatedConv) else module
                hook = asked.register_forward_hook(_answer(module, choice), prepend=True)
                stack.enter_context(hook)
        yield


def _answer(module: GatedConv | FramePolicy, choice: tuple[str, str]) -> Callable:
    """A hook that answers so to every sample."""
    opens_all = dict(zip(AXES, (path == "all" for path in choice), strict=True))
    if isinstance(module, FramePolicy):
        size = 0 if opens_all["channel"] else module.sizes - 1
        return lambda policy, args, out: torch.eye(out.shape[-1])[size].to(out).expand_as(out)
    if not isinstance(module, _Dynamic):
        return lambda gate, args, out: torch.full_like(out, float(opens_all["channel"]))
    paths = module.dynamic.search_space
    every = [2 * (paths - i) / (paths * (paths + 1)) for i in range(paths)]
    least = [0.0] * (paths - 1) + [1.0]
    row = [number for axis in module.axes for number in (every if opens_all[axis] else least)]
    return lambda gate, args, out: out.new_tensor(row).expand(len(out), -1)


def refuse_other_answers(
    came: dict[Choice, Any], expected: dict[Choice, Any], half: bool = False
) -> None:
    """Raises `ValueError` where the tensors differ."""
    for choice, answer in expected.items():
        ours, theirs = (list(tensors_in(of)) for of in (came[choice], answer))
        if not theirs:
            logging.getLogger(__name__).warning(
                "the answer to the example has no tensor, so that the prepared model's could not "
                "be compared with it; prepare a part that answers with tensors"
            )
        if len(ours) != len(theirs):
            raise ValueError(
                f"the prepared model answers to the example with {len(ours)} tensors where the "
                f"model gives {len(theirs)}. Prepare its backbone alone"
            )
        for a, b in zip(ours, theirs, strict=True):
            # Under autocast the model's answer alone is in half precision.
            tolerance = HALF_TOLERANCE if half else max(map(tolerance_of, (a, b)))
            error = apart(a, b)
            if not error <= tolerance:
                how = f" with {choice[0]} channels and {choice[1]} frames" if choice else ""
                raise ValueError(
                    f"the prepared model answers to the example{how} with something else than the "
                    f"model: {tuple(a.shape)} against {tuple(b.shape)}, {error:.1e} of the largest "
                    f"number apart where {tolerance:.0e} is allowed. Prepare its backbone alone"
                    f"{', or with precision=' + repr('float32') if half else ''}"
                )


def tolerance_of(answer: Tensor) -> float:
    """How far from it another way to compute it may be, of its largest number."""
    if answer.dtype == torch.float32 and answer.is_cuda and rounds_to_tf32():
        return HALF_TOLERANCE
    return TOLERANCE.get(answer.dtype, HALF_TOLERANCE)


def apart(came: Tensor, expected: Tensor) -> float:
    """The largest difference, by the largest number of `expected`."""
    if came.shape != expected.shape:
        return float("inf")
    if not came.numel():
        return 0.0
    a, b = numbers_in(came), numbers_in(expected)
    gap = (a - b).abs().masked_fill(a == b, 0)  # Of infinite ones, too.
    largest = b.abs().masked_fill(b.isinf(), 0).max()
    return float(gap.max() / largest.clamp(min=1e-30))


def numbers_in(x: Tensor) -> Tensor:
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).double().cpu()


def tensors_in(answer: Any) -> Iterator[Tensor]:
    """Those in containers and in attributes of objects, such as dataclasses."""
    todo, seen = [answer], dict[int, Any]()
    while todo:
        inner = []
        for leaf in tree_leaves(todo.pop(0)):
            if isinstance(leaf, Tensor):
                yield leaf
            elif id(leaf) not in seen and not isinstance(leaf, type | nn.Module | ModuleType):
                seen[id(leaf)] = leaf
                inner += _attributes(leaf)
        todo = inner + todo


def _attributes(x: Any) -> list[Any]:
    if is_dataclass(x):  # Perhaps with slots.
        return [getattr(x, field.name, None) for field in fields(x)]
    return list(getattr(x, "__dict__", {}).values())
