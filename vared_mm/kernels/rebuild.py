"""`rebuild` by one kernel, and its gradients by another, on a CPU: see rebuild.cpp."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vared_mm.kernels.few_passes import (
    REBUILD_BACKWARD,
    backward_in_few_passes,
    gradients_like,
    rebuild_in_few_passes,
)
from vared_mm.kernels.functions import Bound, ForMaps, Function, are_maps, is_readable
from vared_mm.kernels.loading import LANES_H, Source, loaded
from vared_mm.method.equations import (
    LAYOUTS,
    OpenPath,
    Rebuild,
    layout_of,
    new_maps,
)
from vared_mm.method.rebuild import REBUILD

HERE = Path(__file__).parent
FORWARD = Source.read(LANES_H, HERE / "tiles.h", HERE / "rebuild.cpp")
BACKWARD = Source.read(LANES_H, HERE / "backward_worker.h", HERE / "rebuild_backward.cpp")
MOST_SIDE = 7


@cache
def library(maps: torch.dtype = torch.float32) -> dict[str, Function] | None:
    """The compiled kernels; None where there is no compiler, see `vared_mm.kernels.loading`."""
    if maps == torch.bfloat16:
        return loaded(FORWARD.of(maps))
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
        self._kernel = ForMaps(
            library, "rebuild", channels=channels, side=side, columns=columns, relu=relu,
            scale=scale.contiguous(), bias=bias.contiguous(),
            **told("channel", channel), **told("time", time),
        )  # fmt: skip
        self._of_size = lru_cache(64)(self._bound)

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
        run = self._of_size(self._kernel.of(y), y.shape, full, last)
        run(y=y, gates=gates, place=list(samples), residual=other, out=out)

    def _bound(self, run: Bound, *size: Any) -> Bound:
        return run.bind(**sizes(*size))


def sizes(y: torch.Size, full: tuple[int, ...], last: bool) -> dict[str, Any]:
    """What the kernel is told of maps of the size of `y` and of ([T,] H, W) that it makes."""
    frames, computed_frames = (full[0], y[2]) if len(y) == 5 else (1, 1)
    return dict(
        samples=y[0], computed=y[1], computed_frames=computed_frames, planes=not last,
        frames=frames, height=full[-2], width=full[-1],
    )  # fmt: skip


def told(axis: str, paths: Sequence[OpenPath]) -> dict[str, Any]:
    """What the kernel is told of the open paths of an axis."""
    return {**told_shapes(axis, paths), f"{axis}_phi": read(p.cheap for p in paths)}


def told_shapes(axis: str, paths: Sequence[OpenPath]) -> dict[str, Any]:
    return {
        f"{axis}_paths": len(paths),
        f"{axis}_columns": [path.column for path in paths],
        f"{axis}_scales": [path.scale for path in paths],
    }


def read(phis: Iterable[Tensor | None]) -> list[Tensor | None]:
    """As the kernel reads them."""
    return [phi if phi is None else phi.float().contiguous() for phi in phis]


def kernel_serves(x: Tensor, side: int) -> bool:
    """Whether the kernel computes such maps with Φ of `side` x `side`."""
    return are_maps(x) and x.numel() > 0 and side <= MOST_SIDE and library(x.dtype) is not None


def _rebuild(*arguments: Any) -> Tensor:
    of = Rebuild(*arguments)
    y, gates, shapes, layout = of.y, of.gates, shapes_of(of), layout_of(of.y)
    if not (is_readable(gates) and kernel_serves(y, side_of(shapes))):
        return rebuild_in_few_passes(*of)
    last = layout is not torch.contiguous_format
    run, channel, time = _of_shapes(shapes, last, y.dtype)
    if run is None:
        return rebuild_in_few_passes(*of)
    out = new_maps(y, of.channels, of.frames)
    phi_channel, phi_time = [None, *of.cheap_channel], [None, *of.cheap_time]
    run(
        y=y.contiguous(memory_format=layout), gates=gates.contiguous(), out=out,
        channel_phi=read(phi_channel[i] for i in channel),
        time_phi=read(phi_time[j] for j in time),
    )  # fmt: skip
    return out


@lru_cache(4096)
def _of_shapes(of: Any, last: bool, maps: torch.dtype) -> tuple[Bound | None, list[int], list[int]]:
    """The kernel that knows all shapes, and which paths of each axis it reads Φ of; no kernel where
    nothing is rebuilt.

    Raises:
        ValueError: As `check_memory`.
    """
    channel, time = of.open_paths()
    check_memory(of, channel, time)
    after = len(of.cheap_channel) + 1 if of.cheap_channel else 0
    opened = [path.column for path in channel], [path.column - after for path in time]
    # The last of an axis rebuilds, if any does.
    if not any(paths and paths[-1].cheap is not None for paths in (channel, time)):
        return None, *opened
    kernels, (scale, bias) = library(maps), nothing_after(of.channels)
    assert kernels is not None
    run = kernels["rebuild"].bind(
        residual=None, place=list(range(of.y[0])), channels=of.channels, side=side_of(of),
        columns=len(of.pattern), relu=False, scale=scale, bias=bias,
        **sizes(of.y, (*[of.frames] * (len(of.y) == 5), *of.y[-2:]), last),
        **told_shapes("channel", channel), **told_shapes("time", time),
    )  # fmt: skip
    return run, *opened


def _rebuild_backward(g: Tensor, *arguments: Any) -> list[Tensor]:
    of = Rebuild(*arguments)
    y, gates, cheap, shapes = of.y, of.gates, [*of.cheap_channel, *of.cheap_time], shapes_of(of)
    in_float = all(map(is_readable, (g, gates, *cheap)))
    if not (in_float and all(of.pattern) and kernel_serves(y, side_of(shapes))):
        return backward_in_few_passes(g, *of)
    check_memory(shapes, *shapes.open_paths())
    # To copy maps into the other layout and back is quicker than torch's operations.
    last = LAYOUTS[y.ndim]
    _, d_gates, *d_cheap = gradients_like(of)
    dy = torch.empty_like(y, memory_format=last)
    library()["rebuild_backward"](  # type: ignore[index]
        g=g.contiguous(memory_format=last), y=y.contiguous(memory_format=last),
        gates=gates.contiguous(), dy=dy, d_gates=d_gates, samples=len(y), channels=of.channels,
        frames=of.frames, height=y.shape[-2], width=y.shape[-1],
        channel_paths=len(of.cheap_channel) + bool(of.cheap_channel),
        time_paths=len(of.cheap_time) + bool(of.cheap_time), side=side_of(shapes),
        cheap=[phi.contiguous() for phi in cheap], d_cheap=d_cheap,
    )  # fmt: skip
    return [dy.contiguous(memory_format=layout_of(y)), d_gates, *d_cheap]


def side_of(shapes: Any) -> int:
    """Of Φ's kernels, which are as wide as high."""
    phis = shapes.cheap_channel or shapes.cheap_time
    return phis[0][-1] if phis else 1


def shapes_of(of: Rebuild) -> Any:
    """The same with shapes in place of tensors, as a key."""
    phis = (tuple([phi.shape for phi in own]) for own in (of.cheap_channel, of.cheap_time))
    shapes: Any = of.y.shape, of.gates.shape, *phis, tuple(of.pattern), of.channels, of.frames
    return Rebuild(*shapes)


def check_memory(of: Any, channel: Sequence[Any], time: Sequence[Any]) -> None:
    """Kernels read and write by these numbers, whatever memory there is.

    Args:
        of: A `Rebuild` with shapes in place of tensors; channel, time: Its open paths.

    Raises:
        ValueError: The shapes do not fit together.
    """
    size, channels = of.y, of.channels
    sides = {phi[-1] for phi in (*of.cheap_channel, *of.cheap_time)}
    fits = of.gates == (size[0], len(of.pattern)) and len(sides) < 2
    fits &= size[1] == (channel[0].scale if channel else channels)
    computed_frames = size[2] if len(size) == 5 else 1
    fits &= computed_frames == (-(-of.frames // time[0].scale) if time else of.frames)
    for paths in (channel, time):
        for _, scale, phi in paths:
            if phi is not None:
                rows = channels - scale if paths is channel else (scale - 1) * channels
                fits &= phi.numel() == rows * phi[-1] ** 2
    if not fits:
        raise ValueError(
            f"maps {tuple(size)}, gates {tuple(of.gates)} and the open paths {channel} and "
            f"{time} do not make {channels} channels and {of.frames} frames"
        )


@lru_cache(1024)
def nothing_after(channels: int) -> tuple[Tensor, Tensor]:
    """Scale and bias that change nothing."""
    # Whatever the defaults are.
    ones = torch.ones(channels, dtype=torch.float32, device="cpu")
    return ones, 0 * ones


REBUILD.serve("CPU", _rebuild)
REBUILD_BACKWARD.serve("CPU", _rebuild_backward)
