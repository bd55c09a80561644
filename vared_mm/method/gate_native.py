"""A gate's decision by one kernel, on a CPU where no gradient passes: see decide.cpp."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_float, c_long, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vared_mm.method.rebuild import LAYOUTS
from vared_mm.native import Source, loaded

SOURCE = Source.read(Path(__file__).with_name("decide.cpp"))


class GateStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "hidden", "axes", "choices")),
        *((name, c_void_p) for name in ("weight1", "mean", "var", "weight", "bias")),
        *((name, c_void_p) for name in ("weight2", "beta")),
        ("eps", c_double),
        ("floor", c_float),
    )


class MapsStruct(Structure):
    _fields_ = tuple((name, c_long) for name in ("samples", "channels", "pixels", "channels_last"))


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.native`."""
    maps = POINTER(MapsStruct), c_void_p
    return loaded(SOURCE, decide=(POINTER(GateStruct), *maps, c_void_p, c_long))


class NativeGate:
    """What the kernel is told of a gate, into whose parameters it points.

    Args:
        weights: W1 (hidden, C), W2 (axes * choices, hidden) and β (axes * choices,).
        norm: Mean, variance, weight and bias, (hidden,), and ε.
    """

    def __init__(
        self, weights: Sequence[Tensor], norm: Sequence[Tensor], eps: float, axes: int, floor: float
    ) -> None:
        weight1, weight2, beta = weights
        # Held here: the pointers point into them.
        self._read = weight1, *norm, weight2, beta
        (hidden, self.channels), self.answers = weight1.shape, beta.shape[0]
        self._struct = GateStruct(
            self.channels, hidden, axes, self.answers // axes,
            *[tensor.data_ptr() for tensor in self._read], eps, floor,
        )  # fmt: skip
        self.knows = all(
            t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous()
            for t in self._read
        )

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel computes such maps."""
        return (
            self.knows
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and x.ndim in LAYOUTS
            and x.shape[1] == self.channels
            and (x.is_contiguous(memory_format=LAYOUTS[x.ndim]) or x.is_contiguous())
            and library() is not None
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, axes * choices), float32, for maps that it serves."""
        kernels = library()
        assert kernels is not None
        answer = x.new_empty(x.shape[0], self.answers)
        last = x.is_contiguous(memory_format=LAYOUTS[x.ndim])
        maps = MapsStruct(x.shape[0], self.channels, math.prod(x.shape[2:]), last)
        kernels.decide(self._struct, maps, x.data_ptr(), answer.data_ptr(), torch.get_num_threads())
        return answer
