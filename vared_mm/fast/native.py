"""The kernels of kernels.cpp, and what they are told."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_long, c_void_p
from functools import cache
from pathlib import Path

from vared_mm.native import LANES_H, Source, loaded

SOURCE = Source.read(LANES_H, Path(__file__).with_name("kernels.cpp"))


class GateStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "hidden", "axes", "choices")),
        *((name, c_void_p) for name in ("weight1", "bias1", "weight2", "beta")),
        ("floor", c_float),
    )


class PoolStruct(Structure):
    _fields_ = (
        ("samples", c_long),
        ("channels", c_long),
        *((name, c_long * 3) for name in ("from_", "to", "kernel", "stride", "padding")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no compiler, see `vared_mm.native`."""
    kernels = loaded(SOURCE)
    if kernels is None:
        return None
    kernels.decide.argtypes = (POINTER(GateStruct), c_void_p, c_long, c_long, c_void_p, c_long)
    kernels.decide.restype = None
    kernels.max_pool.argtypes = (POINTER(PoolStruct), c_void_p, c_void_p, c_long)
    kernels.max_pool.restype = None
    return kernels
