"""Functions of a C++ source, called by the names that its `extern "C"` lines give their arguments.

The source alone says what a function takes: nothing of it is written down a second time here.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Name and arguments of a function that others may call, as clang-format lays them out.
EXTERN = re.compile(r'extern "C" (void|long) (\w+)\(([^)]*)\)')
NUMBERS = {"long": ctypes.c_long, "float": ctypes.c_float, "double": ctypes.c_double}


class Function:
    """One function. `f(x=tensor, sizes=(2, 3), rest=None, count=5)` calls it.

    A tensor is told as the place of its memory, which has to be laid out as the function reads it;
    integers in a sequence as a C array, tensors in a sequence as an array of places, None as null.
    `threads` is torch's number of threads where it is not given.
    """

    def __init__(self, call: Any, arguments: Mapping[str, type]) -> None:
        self.call, self.places = call, {name: i for i, name in enumerate(arguments)}
        call.argtypes = list(arguments.values())

    def __call__(self, **arguments: Any) -> Any:
        return Bound(self, arguments)()

    def bind(self, **arguments: Any) -> Bound:
        """The function with some arguments given, whose memory is held for as long as it is."""
        return Bound(self, arguments)


class Bound:
    """A function that knows some of its arguments; what is missing is refused by ctypes."""

    def __init__(self, function: Function, known: Mapping[str, Any]) -> None:
        self._call, self._places = function.call, function.places
        self._threads = None if "threads" in known else self._places.get("threads")
        # Pointers point into them.
        self._kept = list(known.values())
        self._values: list[Any] = [_MISSING] * len(self._places)
        for name, value in known.items():
            self._values[self._places[name]] = in_c(value)

    def __call__(self, **rest: Any) -> Any:
        values = self._values.copy()
        for name, value in rest.items():
            values[self._places[name]] = in_c(value)
        if self._threads is not None:
            values[self._threads] = torch.get_num_threads()
        return self._call(*values)


# What no argument type takes.
_MISSING = object()


def in_c(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data_ptr()
    if isinstance(value, tuple | list):
        if value and isinstance(value[0], int):
            return (ctypes.c_long * len(value))(*value)
        places = [None if one is None else one.data_ptr() for one in value]
        return (ctypes.c_void_p * len(value))(*places)
    return value


def functions_of(library: ctypes.CDLL, text: str) -> dict[str, Function]:
    """Those that the source declares `extern "C"`.

    Raises:
        AttributeError: The library lacks one.
    """
    found = {}
    for result, name, arguments in EXTERN.findall(text):
        call = getattr(library, name)
        call.restype = NUMBERS.get(result)
        found[name] = Function(call, dict(map(_argument, filter(None, arguments.split(",")))))
    return found


def _argument(written: str) -> tuple[str, type]:
    kind, name = re.fullmatch(r"\s*(.*?)(\w+)\s*", written, re.DOTALL).groups()  # type: ignore[union-attr]
    return name, ctypes.c_void_p if "*" in kind else NUMBERS[kind.split()[-1]]
