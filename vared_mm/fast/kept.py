"""What a module keeps from one call to the next, so that it can be seen and put back."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Whose contents can be put back.
CONTAINERS = {list, dict, set, deque, OrderedDict, defaultdict}


class Kept:
    """The attributes of a module and of those in it, the lists and dicts among them, and the
    numbers of all tensors in these but parameters, which are many, as they are now."""

    def __init__(self, module: nn.Module) -> None:
        todo: list[Any] = [vars(m) for m in module.modules()]
        found: dict[int, Any] = {}
        while todo:
            each = todo.pop()
            is_walked = type(each) in CONTAINERS or isinstance(each, tuple)
            if id(each) in found or not (is_walked or isinstance(each, Tensor)):
                continue
            found[id(each)] = each
            if is_walked:
                todo += each.values() if isinstance(each, dict) else each
        self._containers = [(c, copy.copy(c)) for c in found.values() if type(c) in CONTAINERS]
        tensors = [t for t in found.values() if isinstance(t, Tensor) and not is_lazy(t)]
        self._tensors = [(t, _version(t), _numbers(t)) for t in tensors]

    def is_written(self) -> bool:
        """Whether something was written into a tensor since."""
        return any(_is_written(*each) for each in self._tensors)

    def is_changed(self) -> bool:
        return self.is_written() or bool(self._changed())

    def _changed(self) -> list[tuple[Any, Any]]:
        return [(c, old) for c, old in self._containers if _contents(c) != _contents(old)]

    def put_back(self) -> bool:
        """Gives containers and tensors what they held; whether that was something else."""
        is_changed = self.is_changed()
        for now, before in self._changed():
            now.clear()
            now.extend(before) if isinstance(now, list | deque) else now.update(before)
        for tensor, _, numbers in self._tensors:
            if numbers is not None and _differ(tensor, numbers):
                # Of one number that is seen as several, that itself is kept, too.
                inference = torch.inference_mode(tensor.is_inference())
                with suppress(RuntimeError), inference, torch.no_grad():
                    tensor.copy_(numbers)
        self._tensors = [(t, _version(t), numbers) for t, _, numbers in self._tensors]
        return is_changed


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """Raises `ValueError` where calls of copies, made within, write into what `model` keeps: a
    copy would answer with what it kept itself when it was made."""
    kept, fault = Kept(model), None
    try:
        yield
    except Exception as error:
        fault = error
    if kept.is_changed():
        raise ValueError(
            "a copy of the model writes into the model that it was made from, as a hook does that "
            "closes over it (`lambda module, args, y: self.maps.append(y)`); register a method of "
            "the model, of which a copy has its own, or remove the hook. If another thread called "
            "the model meanwhile, prepare it while nobody does"
        ) from fault
    if fault is not None:
        raise fault


def _contents(container: Any) -> list[Any]:
    """Which objects they are, as to compare some asks the user's code."""
    if isinstance(container, set):
        return sorted(map(id, container))  # A copy may have another order.
    items = container.items() if isinstance(container, dict) else enumerate(container)
    return [(key, id(value)) for key, value in items]


def _version(x: Tensor) -> int | None:
    """How often it was written into; of tensors of inference mode torch does not count it."""
    return None if x.is_inference() else x._version


def _numbers(x: Tensor) -> Tensor | None:
    return None if isinstance(x, nn.Parameter) and not x.is_inference() else x.detach().clone()


def _is_written(x: Tensor, version: int | None, numbers: Tensor | None) -> bool:
    if version is None:
        return numbers is not None and _differ(x, numbers)
    return x._version != version


def _differ(x: Tensor, numbers: Tensor) -> bool:
    """NaN is what it was."""
    if x.shape != numbers.shape:
        return True
    return bool(((x != numbers) & ((x == x) | (numbers == numbers))).any())
