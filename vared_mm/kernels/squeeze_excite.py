"""Squeeze and excitation, with the Swish after it, on a CPU: see squeeze_excite.cpp."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vared_mm.kernels.functions import Function, is_readable
from vared_mm.kernels.loading import Source, loaded
from vared_mm.method.equations import LAYOUTS

SOURCE = Source.read(Path(__file__).with_name("squeeze_excite.cpp"))
LANES = 16


@cache
def library() -> dict[str, Function] | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.kernels.loading`."""
    return loaded(SOURCE)


class Exciting:
    """What the kernel is told of two pointwise convolutions, to the hidden channels and back."""

    def __init__(
        self, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, swish: bool
    ) -> None:
        hidden, self.channels = weight1.shape[:2]
        self.ndim = weight1.ndim
        kernels = library()
        self._run = None
        if kernels is not None:
            one, two = (w.float().flatten(1).contiguous() for w in (weight1, weight2))
            self._run = kernels["squeeze_excite"].bind(
                channels=self.channels, hidden=hidden, swish=swish,
                weight1=one, bias1=bias1.float(), weight2=two, bias2=bias2.float(),
            )  # fmt: skip

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel excites such maps."""
        return (
            self._run is not None
            and is_readable(x)
            and x.ndim == self.ndim
            and x.shape[1] == self.channels >= LANES
            and x.is_contiguous(memory_format=LAYOUTS[x.ndim])
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Of maps that it serves."""
        assert self._run is not None
        out = torch.empty_like(x)
        self._run(x=x, out=out, samples=x.shape[0], pixels=math.prod(x.shape[2:]))
        return out
