"""Calls of kernels, one after the other: see series.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vared_mm.kernels.functions import Function
from vared_mm.kernels.loading import Source, kernels_of

SOURCE = Source.read(Path(__file__).with_name("series.cpp"))
# Told as integers, and so are places in memory; all else in registers of another kind.
INTEGERS = {ctypes.c_long, ctypes.c_void_p}
library = kernels_of(SOURCE)


class Told(NamedTuple):
    """A call: all values as C takes them, and arguments (place, base, offset) in memory that is
    known when it is made."""

    function: Function
    values: Sequence[Any]
    places: Sequence[tuple[int, int, int]]


def serves(function: Function) -> bool:
    """Whether it may be one of a series."""
    kernels = library()
    kinds = function.call.argtypes
    return (
        kernels is not None
        and len(kinds) <= kernels["most_arguments"]()
        and INTEGERS.issuperset(kinds)
    )


class Series:
    """Several calls in one."""

    def __init__(self, calls: Sequence[Told]) -> None:
        script: list[int] = []
        for function, values, places in calls:
            kernel = ctypes.cast(function.call, ctypes.c_void_p).value
            threads = -1 if function.threads is None else function.threads
            later = {threads, *(place for place, _, _ in places)}
            known = [0 if i in later else as_integer(v) for i, v in enumerate(values)]
            told = [number for each in places for number in each]
            script += [kernel or 0, len(values), threads, len(places), *known, *told]
        # Arrays among the values have to stay.
        self._kept = [values for _, values, _ in calls]
        self._script = (ctypes.c_long * len(script))(*script)
        kernels = library()
        assert kernels is not None
        self._call, self._calls = kernels["series"].call, len(calls)

    def __call__(self, bases: Sequence[int], threads: int) -> None:
        """With each base where it is in memory."""
        here = (ctypes.c_long * len(bases))(*bases)
        self._call(self._script, self._calls, here, threads)


def as_integer(value: Any) -> int:
    """As C takes it."""
    if value is None:
        return 0
    return ctypes.addressof(value) if isinstance(value, ctypes.Array) else int(value)
