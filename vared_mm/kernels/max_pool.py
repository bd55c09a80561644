"""Max pooling of clips that lie channels last, on a CPU: see max_pool.cpp."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vared_mm.kernels.functions import ForMaps
from vared_mm.kernels.loading import LANES_H, Source, kernels_of

SOURCE = Source.read(LANES_H, Path(__file__).with_name("max_pool.cpp"))
# Channels of one vector.
LANES = 16
library = kernels_of(SOURCE)


class Pooling:
    """What the kernel is told of a pooling; its settings over T, H, W."""

    def __init__(
        self, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> None:
        self._settings = list(zip(kernel, stride, padding, strict=True))
        settings = dict(kernel=kernel, stride=stride, padding=padding)
        self._kernel = ForMaps(library, "max_pool", **settings)

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel pools such maps, and something comes of them."""
        return (
            self._kernel.of(x) is not None
            and x.ndim == 5
            and x.shape[1] >= LANES
            and x.numel() > 0
            and x.is_contiguous(memory_format=torch.channels_last_3d)
            and min(self._size_of(x)) > 0
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Of maps that it serves."""
        run = self._kernel.of(x)
        assert run is not None
        (samples, channels, *size), to = x.shape, self._size_of(x)
        out = torch.empty(
            (samples, channels, *to), dtype=x.dtype, memory_format=torch.channels_last_3d
        )
        run(x=x, out=out, samples=samples, channels=channels, **{"from": size, "to": to})
        return out

    def _size_of(self, x: Tensor) -> list[int]:
        return [
            (n + 2 * padding - kernel) // stride + 1
            for n, (kernel, stride, padding) in zip(x.shape[2:], self._settings, strict=True)
        ]
