"""`decide` by one kernel, on a CPU: see decide.cpp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vared_mm.kernels.functions import ForMaps, is_readable
from vared_mm.kernels.loading import LANES_H, Source, kernels_of
from vared_mm.method.equations import LAYOUTS
from vared_mm.method.gate import DECIDE, decide_by_definition

SOURCE = Source.read(LANES_H, Path(__file__).with_name("decide.cpp"))
READ = ("weight1", "mean", "var", "scale", "shift", "weight2", "beta")
library = kernels_of(SOURCE)


class Deciding:
    """What the kernel is told of a gate.

    Args:
        read, settings: The tensors of `decide_by_definition` after the maps, and the rest.
    """

    def __init__(self, read: Sequence[Tensor], *settings: Any) -> None:
        weight1, *norm, weight2, beta = read
        eps, axes, floor, _, change, normalised = settings
        (hidden, inputs), self.answers = weight1.shape, beta.shape[0]
        self.channels = inputs // 2 if change else inputs
        known = all(is_readable(t) and t.is_contiguous() for t in read)
        known &= all(t.shape == (hidden,) for t in norm)
        known &= weight2.shape == (self.answers, hidden) and beta.ndim == 1
        self._kernel = None
        if known:
            self._kernel = ForMaps(
                library, "decide",
                channels=self.channels, hidden=hidden, axes=axes, choices=self.answers // axes,
                eps=eps, floor=floor, change=change, normalised=normalised,
                **dict(zip(READ, read, strict=True)),
            )  # fmt: skip

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel computes such maps."""
        return (
            self._kernel is not None
            and self._kernel.of(x) is not None
            and x.ndim in LAYOUTS
            and x.shape[1] == self.channels
            and (x.is_contiguous(memory_format=LAYOUTS[x.ndim]) or x.is_contiguous())
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, axes * choices), float32, for maps that it serves."""
        run = None if self._kernel is None else self._kernel.of(x)
        assert run is not None
        answer = x.new_empty(x.shape[0], self.answers, dtype=torch.float32)
        last = x.is_contiguous(memory_format=LAYOUTS[x.ndim])
        run(
            x=x, answer=answer, samples=x.shape[0], frames=x.shape[2],
            frame=math.prod(x.shape[3:]), planes=not last,
        )  # fmt: skip
        return answer


def _decide(x: Tensor, *arguments: Any) -> Tensor:
    kernel = Deciding(arguments[: len(READ)], *arguments[len(READ) :])
    return kernel(x) if kernel.serves(x) else decide_by_definition(x, *arguments)


DECIDE.serve("CPU", _decide)
