"""`rebuild` by one kernel, and its gradients by another, on a CPU: see rebuild.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vared_mm.kernels.few_passes import backward_in_few_passes, rebuild_in_few_passes
from vared_mm.kernels.functions import Bound, Function, array_of
from vared_mm.kernels.loading import LANES_H, Source, loaded
from vared_mm.method.equations import LAYOUTS, OpenPath, layout_of, new_maps, open_paths
from vared_mm.method.operators import LIBRARY

HERE = Path(__file__).parent
FORWARD = Source.read(LANES_H, HERE / "tiles.h", HERE / "rebuild.cpp")
BACKWARD = Source.read(LANES_H, HERE / "backward_worker.h", HERE / "rebuild_backward.cpp")
MOST_SIDE = 7


@cache
def library() -> dict[str, Function] | None:
    """The compiled kernels; None where there is no compiler, see `vared_mm.kernels.loading`."""
    forward, backward = loaded(FORWARD), loaded(BACKWARD)
    return None if forward is None or backward is None else {**forward, **backward}


class Rebuilding:
    """What the kernel is told of a convolution whose open paths are known.

    Args:
        channel, time: The open ones of each axis, the most computed first.
        channels: Of the output.
        side: Of Φ's kernels.
        columns: How many gates a sample has.
        scale, bias, relu: What follows, (channels,), float32.
    """

    def __init__(
        self,
        channel: Sequence[OpenPath],
        time: Sequence[OpenPath],
        channels: int,
        side: int,
        columns: int,
        scale: Tensor,
        bias: Tensor,
        relu: bool,
    ) -> None:
        kernels = library()
        assert kernels is not None
        self._run = kernels["rebuild"].bind(
            channels=channels, side=side, columns=columns, relu=relu,
            scale=scale.contiguous(), bias=bias.contiguous(),
            **told("channel", channel, channels), **told("time", time, channels),
        )  # fmt: skip
        self._of_size: dict[tuple, Bound] = {}

    def __call__(
        self,
        y: Tensor,
        gates: Tensor,
        other: Tensor | None,
        full: tuple[int, ...],
        out: Tensor,
        samples: Sequence[int],
    ) -> None:
        """out = activate(scale · rebuild(y) + bias + other), sample n of y at `samples[n]`.

        Args:
            y: (N, k, [F,] H, W), contiguous, channels last or not; gates: (N, G), contiguous
                float32.
            full: ([T,] H, W) of the output.
            out: In the layout of y. Channels last it may be y where nothing is rebuilt, and there
                may be something to add.
        """
        last = y.is_contiguous(memory_format=LAYOUTS[y.ndim])
        size = y.shape, full, last
        if size not in self._of_size:
            self._of_size[size] = self._run.bind(**sizes(y, full, last))
        self._of_size[size](y=y, gates=gates, place=places(*samples), residual=other, out=out)


def sizes(y: Tensor, full: tuple[int, ...], last: bool) -> dict[str, Any]:
    """What the kernel is told of maps `y` and the size ([T,] H, W) of what comes of them."""
    frames, computed_frames = (full[0], y.shape[2]) if y.ndim == 5 else (1, 1)
    return dict(
        samples=y.shape[0], computed=y.shape[1], computed_frames=computed_frames, planes=not last,
        frames=frames, height=full[-2], width=full[-1],
    )  # fmt: skip


@lru_cache(1024)
def places(*samples: int) -> ctypes.Array:
    return array_of(samples)


def told(axis: str, paths: Sequence[OpenPath], channels: int) -> dict[str, Any]:
    """What the kernel is told of the open paths of an axis."""
    phi = [
        None if path.cheap is None else taps_first(path.cheap, axis)[..., :channels].contiguous()
        for path in paths
    ]
    return {
        f"{axis}_paths": len(paths),
        f"{axis}_columns": [path.column for path in paths],
        f"{axis}_scales": [path.scale for path in paths],
        f"{axis}_phi": phi,
    }


def taps_first(phi: Tensor, axis: str) -> Tensor:
    """(..., taps, C): Φ as it is read along the channels, its taps before them."""
    return phi.detach().float().flatten(2 if axis == "time" else 1).transpose(-1, -2)


def kernel_serves(x: Tensor, side: int) -> bool:
    """Whether the kernel computes such maps with Φ of `side` x `side`."""
    return (
        x.dtype == torch.float32
        and x.numel() > 0
        and x.device.type == "cpu"
        and side <= MOST_SIDE
        and library() is not None
    )


def _rebuild(
    y: Tensor,
    gates: Tensor,
    cheap_channel: list[Tensor],
    cheap_time: list[Tensor],
    pattern: list[bool],
    channels: int,
    frames: int,
) -> Tensor:
    side = side_of(cheap_channel, cheap_time)
    channel, time = open_paths(pattern, channels, cheap_channel, cheap_time)
    rebuilds = bool(channel and channel[-1].cheap is not None) or bool(
        time and time[-1].cheap is not None
    )
    if not (kernel_serves(y, side) and gates.dtype == torch.float32 and rebuilds):
        return rebuild_in_few_passes(y, gates, cheap_channel, cheap_time, pattern, channels, frames)
    check_memory(y, gates, channel, time, len(pattern), side, channels, frames)
    out = new_maps(y, channels, frames)
    layout, (scale, bias) = layout_of(y), nothing_after(channels)
    last = layout is not torch.contiguous_format
    library()["rebuild"](  # type: ignore[index]
        y=y.contiguous(memory_format=layout), gates=gates.contiguous(), out=out, residual=None,
        place=places(*range(y.shape[0])), channels=channels, side=side, columns=len(pattern),
        relu=False, scale=scale, bias=bias, **sizes(y, out.shape[2:], last),
        **told("channel", channel, channels), **told("time", time, channels),
    )  # fmt: skip
    return out


def _rebuild_backward(
    g: Tensor,
    y: Tensor,
    gates: Tensor,
    cheap_channel: list[Tensor],
    cheap_time: list[Tensor],
    pattern: list[bool],
    channels: int,
    frames: int,
) -> list[Tensor]:
    arguments = gates, cheap_channel, cheap_time, pattern, channels, frames
    side, cheap = side_of(cheap_channel, cheap_time), [*cheap_channel, *cheap_time]
    in_float = all(v.dtype == torch.float32 for v in (g, gates, *cheap))
    if not (kernel_serves(y, side) and in_float and all(pattern)):
        return backward_in_few_passes(g, y, *arguments)
    paths = open_paths(pattern, channels, cheap_channel, cheap_time)
    check_memory(y, gates, *paths, len(pattern), side, channels, frames)
    # To copy maps into the other layout and back is quicker than torch's operations.
    last = LAYOUTS[y.ndim]
    dy, d_gates = torch.empty_like(y, memory_format=last), torch.empty_like(gates)
    d_cheap = [torch.zeros_like(phi, memory_format=torch.contiguous_format) for phi in cheap]
    library()["rebuild_backward"](  # type: ignore[index]
        g=g.contiguous(memory_format=last), y=y.contiguous(memory_format=last),
        gates=gates.contiguous(), dy=dy, d_gates=d_gates, samples=len(y), channels=channels,
        frames=frames, height=y.shape[-2], width=y.shape[-1],
        channel_paths=len(cheap_channel) + bool(cheap_channel),
        time_paths=len(cheap_time) + bool(cheap_time), side=side,
        cheap=[phi.contiguous() for phi in cheap], d_cheap=d_cheap,
    )  # fmt: skip
    return [dy.contiguous(memory_format=layout_of(y)), d_gates, *d_cheap]


def side_of(cheap_channel: Sequence[Tensor], cheap_time: Sequence[Tensor]) -> int:
    return next((phi.shape[-1] for phi in (*cheap_channel, *cheap_time)), 1)


def check_memory(
    y: Tensor, gates: Tensor, channel: Sequence[OpenPath], time: Sequence[OpenPath], columns: int,
    side: int, channels: int, frames: int,
) -> None:  # fmt: skip
    """Kernels read and write by these numbers, whatever memory there is.

    Raises:
        ValueError: The shapes do not fit together.
    """
    size, taps = y.shape, side * side
    fits = gates.shape == (size[0], columns)
    fits &= size[1] == (channel[0].scale if channel else channels)
    computed = size[2] if y.ndim == 5 else 1
    fits &= computed == (-(-frames // time[0].scale) if time else frames)
    for paths in (channel, time):
        for _, scale, phi in paths:
            if phi is not None:
                rows = channels - scale if paths is channel else (scale - 1) * channels
                fits &= phi.numel() == rows * taps and phi.shape[-1] == side
    if not fits:
        raise ValueError(
            f"maps {tuple(size)}, gates {tuple(gates.shape)} and the open paths {channel} and "
            f"{time} do not make {channels} channels and {frames} frames"
        )


@lru_cache(1024)
def nothing_after(channels: int) -> tuple[Tensor, Tensor]:
    """Scale and bias that change nothing."""
    # Whatever the defaults are.
    ones = torch.ones(channels, dtype=torch.float32, device="cpu")
    return ones, 0 * ones


LIBRARY.impl("rebuild", _rebuild, "CPU")
LIBRARY.impl("rebuild_backward", _rebuild_backward, "CPU")
