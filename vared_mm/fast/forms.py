"""What of a call's inputs a traced graph has as it was in the example: all but the numbers.

Under torch.fx `x is None`, `mode is Mode.SCORES`, `"mask" in batch` and `isinstance(x, Tensor)` are
asked once, of what stands for the inputs. Only `if x > 0` and the like cannot be traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from enum import Enum
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

# What a forward asks of these is asked of what they are.
NUMBERS = {int, float, complex}
CONSTANTS = {bool, NoneType, str, bytes, torch.dtype, torch.device, torch.Size}


def form_of(inputs: tuple) -> tuple | None:
    """Equal for inputs that differ in numbers alone: containers, types, names and switches are the
    same. None where something may be otherwise and cannot be compared."""
    if len(inputs) == 1 and type(inputs[0]) is Tensor:
        return (inputs[0].dtype,)  # As nearly always.
    leaves, places = tree_flatten(inputs)
    told = [_told(x) for x in leaves]
    # A forward may ask whether two are one: `if key is query`.
    ids = [id(x) for x in leaves if isinstance(x, Tensor)]
    return None if None in told else (places, told, [ids.index(each) for each in ids])


def _told(x: Any) -> Any:
    if isinstance(x, Tensor):
        return type(x), x.dtype
    if type(x) in NUMBERS:
        return type(x)
    return (type(x), x) if type(x) in CONSTANTS or isinstance(x, Enum) else None


def names_needed(module: nn.Module) -> list[str]:
    """The arguments that its `forward` has to be given."""
    parameters = inspect.signature(module.forward).parameters.values()
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [p.name for p in parameters if p.default is p.empty and p.kind not in several]


def in_places(names: Sequence[str], given: tuple, named: dict[str, Any]) -> tuple | None:
    """The arguments of these names, in their order; None where there are others, or too few."""
    places = (*given, *(named[name] for name in names[len(given) :] if name in named))
    return places if len(places) == len(names) == len(given) + len(named) else None
