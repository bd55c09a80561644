"""`decide` by one kernel, on a CPU: see decide.cpp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from vared_mm.kernels.functions import Function, is_readable
from vared_mm.kernels.loading import Source, loaded
from vared_mm.method.equations import LAYOUTS
from vared_mm.method.gate import DECIDE, decide_by_definition

SOURCE = Source.read(Path(__file__).with_name("decide.cpp"))
READ = ("weight1", "mean", "var", "scale", "shift", "weight2", "beta")


@cache
def library() -> dict[str, Function] | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.kernels.loading`."""
    return loaded(SOURCE)


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
        kernels = library()
        known = all(is_readable(t) and t.is_contiguous() for t in read)
        known &= all(t.shape == (hidden,) for t in norm)
        known &= weight2.shape == (self.answers, hidden) and beta.ndim == 1
        self._run = None
        if known and kernels is not None:
            self._run = kernels["decide"].bind(
                channels=self.channels, hidden=hidden, axes=axes, choices=self.answers // axes,
                eps=eps, floor=floor, change=change, normalised=normalised,
                **dict(zip(READ, read, strict=True)),
            )  # fmt: skip

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel computes such maps."""
        return (
            self._run is not None
            and is_readable(x)
            and x.ndim in LAYOUTS
            and x.shape[1] == self.channels
            and (x.is_contiguous(memory_format=LAYOUTS[x.ndim]) or x.is_contiguous())
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, axes * choices), float32, for maps that it serves."""
        assert self._run is not None
        answer = x.new_empty(x.shape[0], self.answers)
        last = x.is_contiguous(memory_format=LAYOUTS[x.ndim])
        self._run(
            x=x, answer=answer, samples=x.shape[0], frames=x.shape[2],
            frame=math.prod(x.shape[3:]), planes=not last,
        )  # fmt: skip
        return answer


def _decide(x: Tensor, *arguments: Any) -> Tensor:
    kernel = Deciding(arguments[: len(READ)], *arguments[len(READ) :])
    return kernel(x) if kernel.serves(x) else decide_by_definition(x, *arguments)


DECIDE.serve("CPU", _decide)
