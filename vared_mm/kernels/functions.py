"""Functions of a C++ source, called by the names that its `extern "C"` lines give their arguments.

The source alone says what a function takes: nothing of it is written down a second time here.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

# Name and arguments of a function that others may call, as clang-format lays them out.
EXTERN = re.compile(r'extern "C" (void|long) (\w+)\(([^)]*)\)')
NUMBERS = {"long": ctypes.c_long, "float": ctypes.c_float, "double": ctypes.c_double}
MAPS = {torch.float32, torch.bfloat16}
AS_THEY_ARE = {int, float, bool, type(None)}


class Function:
    """One function. `f(x=tensor, sizes=(2, 3), rest=None, count=5)` calls it.

    A tensor is told as the place of its memory, which has to be laid out as the function reads it;
    integers in a sequence as a C array, tensors in a sequence as an array of places, None as null.
    `threads` is torch's number of threads where it is not given.
    """

    def __init__(self, call: Any, arguments: Mapping[str, type]) -> None:
        self.call, self.places = call, {name: i for i, name in enumerate(arguments)}
        self.threads = self.places.get("threads")
        call.argtypes = list(arguments.values())

    def __call__(self, **arguments: Any) -> Any:
        values = [_MISSING] * len(self.places)
        return self.run(values, arguments)

    def bind(self, **arguments: Any) -> Bound:
        """The function with some arguments given, whose memory is held for as long as it is."""
        return Bound(self, arguments)

    def run(self, values: list[Any], arguments: Mapping[str, Any]) -> Any:
        """With `arguments` put into their places among the others, as C takes them."""
        self.put(values, arguments)
        if self.threads is not None and values[self.threads] is _MISSING:
            values[self.threads] = torch.get_num_threads()
        if (heard_by := listener()) is not None:
            heard_by.hear(self, values, arguments)
        return self.call(*values)

    def put(self, values: list[Any], arguments: Mapping[str, Any]) -> None:
        places = self.places
        for name, value in arguments.items():
            # Most are numbers, and each question takes its time.
            if type(value) not in AS_THEY_ARE:
                value = array_of(value) if isinstance(value, (list, tuple)) else value.data_ptr()
            values[places[name]] = value


class Bound:
    """A function that knows some of its arguments; what is missing is refused by ctypes."""

    def __init__(self, function: Function, known: Mapping[str, Any]) -> None:
        self._function = function
        # Pointers point into them.
        self._kept = list(known.values())
        self._values: list[Any] = [_MISSING] * len(function.places)
        function.put(self._values, known)

    def bind(self, **more: Any) -> Bound:
        bound = Bound(self._function, more)
        bound._kept.append(self)
        ours = zip(bound._values, self._values, strict=True)
        bound._values = [own if own is not _MISSING else known for own, known in ours]
        return bound

    def __call__(self, **rest: Any) -> Any:
        return self._function.run(self._values.copy(), rest)


class ForMaps:
    """A kernel that is told some of its arguments once, for maps of each type that there is.

    Args:
        library: Answers with the compiled functions for a type of maps, or with None.
    """

    def __init__(
        self, library: Callable[[torch.dtype], Mapping[str, Function] | None], name: str,
        **known: Any,
    ) -> None:  # fmt: skip
        self._library, self._name, self._known = library, name, known
        self._bound: dict[torch.dtype, Bound | None] = {}

    def of(self, maps: Tensor) -> Bound | None:
        """The one for such maps; None where our kernels do not read them or cannot be compiled."""
        if maps.dtype not in self._bound:
            kernels = self._library(maps.dtype) if maps.dtype in MAPS else None
            bound = None if kernels is None else kernels[self._name].bind(**self._known)
            self._bound[maps.dtype] = bound
        return self._bound[maps.dtype] if are_maps(maps) else None


# What no argument type takes.
_MISSING: Any = object()
_here = threading.local()


class Listener(Protocol):
    """Who is told of calls."""

    def hear(self, function: Function, values: list[Any], arguments: Mapping[str, Any]) -> None:
        """All values as C takes them; by name, as they came, those that were not known before."""


def listener() -> Listener | None:
    """Who is told of the calls in this thread."""
    return getattr(_here, "listener", None)


@contextmanager
def heard(by: Listener) -> Iterator[None]:
    """Within, `by` is told of each call in this thread."""
    outer, _here.listener = listener(), by
    try:
        yield
    finally:
        _here.listener = outer


def is_readable(tensor: Tensor) -> bool:
    """Whether it is what our functions read and write: floats in this computer's memory."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def are_maps(tensor: Tensor) -> bool:
    """Whether it is maps that those read and write which were compiled for its type, as they lie: a
    negated view has the memory of what it negates."""
    return tensor.dtype in MAPS and tensor.device.type == "cpu" and not tensor.is_neg()


def array_of(values: Sequence[Any]) -> ctypes.Array:
    if values and isinstance(values[0], int):
        return _integers(*values)
    places = [None if value is None else value.data_ptr() for value in values]
    return (ctypes.c_void_p * len(values))(*places)


@lru_cache(4096)
def _integers(*values: int) -> ctypes.Array:
    # Few are ever wanted, and to make one takes as long as a small kernel.
    return (ctypes.c_long * len(values))(*values)


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
