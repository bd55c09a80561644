"""Squeeze and excitation, and Swish, on a CPU: see squeeze_excite.cpp."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.kernels.functions import ForMaps, are_maps
from vared_mm.kernels.loading import LANES_H, Source, kernels_of
from vared_mm.method.equations import LAYOUTS

SOURCE = Source.read(LANES_H, Path(__file__).with_name("squeeze_excite.cpp"))
LANES = 16
library = kernels_of(SOURCE)


class Exciting:
    """What the kernel is told of two pointwise convolutions, to the hidden channels and back."""

    def __init__(
        self, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, swish: bool
    ) -> None:
        hidden, self.channels = weight1.shape[:2]
        self.ndim = weight1.ndim
        one, two = (w.float().flatten(1).contiguous() for w in (weight1, weight2))
        self._kernel = ForMaps(
            library, "squeeze_excite", channels=self.channels, hidden=hidden, swish=swish,
            weight1=one, bias1=bias1.float(), weight2=two, bias2=bias2.float(),
        )  # fmt: skip

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel excites such maps."""
        return (
            self._kernel.of(x) is not None
            and x.ndim == self.ndim
            and x.shape[1] == self.channels >= LANES
            and x.is_contiguous(memory_format=LAYOUTS[x.ndim])
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Of maps that it serves."""
        run = self._kernel.of(x)
        assert run is not None
        out = torch.empty_like(x)
        run(x=x, out=out, samples=x.shape[0], pixels=math.prod(x.shape[2:]))
        return out


def swish(x: Tensor, inplace: bool = False) -> Tensor:
    """x · sigmoid(x), which torch takes twice as long for."""
    x = x.resolve_neg()
    last = x.ndim in LAYOUTS and x.is_contiguous(memory_format=LAYOUTS[x.ndim])
    read = are_maps(x) and (last or x.is_contiguous()) and not x.requires_grad
    kernels = library(x.dtype) if read else None
    if kernels is None:
        return F.silu(x, inplace)
    out = x if inplace else torch.empty_like(x)
    kernels["swish_alone"](count=x.numel(), x=x, out=out)
    return out
