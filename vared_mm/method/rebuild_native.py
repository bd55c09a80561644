"""Rebuilding by one kernel, on a CPU where no gradient passes: see rebuild.cpp."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_long, c_void_p
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vared_mm.method.errors import DynamicError
from vared_mm.method.rebuild import LAYOUTS, OpenPath
from vared_mm.native import LANES_H, Source, loaded, nobody_watches

OPEN_PATHS_H = Path(__file__).with_name("open_paths.h")
SOURCE = Source.read(LANES_H, OPEN_PATHS_H, Path(__file__).with_name("rebuild.cpp"))
MOST_PATHS = 4
MOST_SIDE = 7


class PathStruct(Structure):
    _fields_ = (("gate", c_long), ("scale", c_long), ("phi", c_void_p))


class LayerStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "computed", "side", "relu")),
        *((name, c_long) for name in ("channel_paths", "time_paths", "gates")),
        ("channel", PathStruct * MOST_PATHS),
        ("time", PathStruct * MOST_PATHS),
        ("scale", c_void_p),
        ("bias", c_void_p),
    )


class SizeStruct(Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("samples", "frames", "computed_frames", "height", "width"),
            *("sample", "channel", "pixel"),
        )
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.native`."""
    told = POINTER(LayerStruct), POINTER(SizeStruct)
    maps = c_void_p, c_void_p, POINTER(c_long), c_void_p, c_void_p
    return loaded(SOURCE, rebuild=(*told, *maps, c_long))


class Layer:
    """What the kernel is told of a convolution whose open paths are known.

    Args:
        paths: The open ones of "channel" and "time", the most computed first.
        computed: Of `channels`, how many y has.
        gates: How many a sample has.
        scale, bias, relu: What follows, (channels,), float32.
    """

    def __init__(
        self,
        paths: Mapping[str, Sequence[OpenPath]],
        channels: int,
        computed: int,
        side: int,
        gates: int,
        scale: Tensor,
        bias: Tensor,
        relu: bool,
    ) -> None:
        # Held here: the pointers point into them.
        self._kept = [scale.contiguous(), bias.contiguous()]
        self.channels = channels
        first, second = (tensor.data_ptr() for tensor in self._kept)
        self.struct = LayerStruct(
            channels=channels, computed=computed, side=side, relu=relu, gates=gates, scale=first,
            bias=second, channel_paths=len(paths["channel"]), time_paths=len(paths["time"]),
        )  # fmt: skip
        for axis, its_paths in paths.items():
            for place, (column, scale_of_path, cheap) in zip(
                getattr(self.struct, axis), its_paths, strict=False
            ):
                place.gate, place.scale = column, scale_of_path
                if cheap is not None:
                    self._kept.append(taps_first(cheap, axis)[..., :channels].contiguous())
                    place.phi = self._kept[-1].data_ptr()

    def rebuild(
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
        kernels = library()
        assert kernels is not None
        last = y.is_contiguous(memory_format=LAYOUTS[y.ndim])
        kernels.rebuild(
            self.struct, sizes_of(y.shape, full, last), y.data_ptr(), gates.data_ptr(),
            places(*samples), None if other is None else other.data_ptr(), out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip


def rebuilt(
    y: Tensor,
    gates: Tensor,
    paths: Mapping[str, Sequence[OpenPath]],
    channels: int,
    frames: int,
    side: int,
) -> Tensor:
    """`rebuild_frames(rebuild_channels(y))`, in the layout of `y`, for `kernel_rebuilds`.

    `frames` counts where there are paths of time.
    """
    refuse_other_rows(y, gates)
    layouts = LAYOUTS[y.ndim], torch.contiguous_format
    layout = next((v for v in layouts if y.is_contiguous(memory_format=v)), layouts[0])
    full = (frames, *y.shape[3:]) if paths["time"] else tuple(y.shape[2:])
    layer = Layer(paths, channels, y.shape[1], side, gates.shape[1], *nothing_after(channels))
    shape = (len(y), channels, *full)
    out = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=layout)
    layer.rebuild(
        y.contiguous(memory_format=layout), gates.contiguous(), None, full, out, range(len(y))
    )
    return out


def refuse_other_rows(y: Tensor, *gates: Tensor) -> None:
    """A kernel reads a row of gates for each sample, whatever there is."""
    for answer in gates:
        if answer.ndim != 2 or len(answer) != len(y):
            raise DynamicError(
                f"the gate of a dynamic convolution answered {tuple(answer.shape)} for {len(y)} "
                "samples, of which each wants a row; does a hook answer in its place?"
            )


def kernel_rebuilds(
    y: Tensor, gates: Tensor, paths: Mapping[str, Sequence[OpenPath]], side: int
) -> bool:
    """Whether `rebuilt` takes these; what watches or traces operations would not see it."""
    return (
        nobody_watches(y)
        and any(path.cheap is not None for path in (*paths["channel"], *paths["time"]))
        and gates.dtype == torch.float32
        and kernel_serves(y, side)
    )


def kernel_serves(x: Tensor, side: int) -> bool:
    """Whether the kernel computes such maps with Φ of `side` x `side`."""
    return (
        x.dtype == torch.float32
        and x.numel() > 0
        and x.device.type == "cpu"
        and side <= MOST_SIDE
        and library() is not None
    )


@lru_cache(1024)
def sizes_of(y: torch.Size, full: tuple[int, ...], channels_last: bool) -> SizeStruct:
    frames, computed = (full[0], y[2]) if len(y) == 5 else (1, 1)
    plane = math.prod(y[2:])
    pitches = (1, y[1]) if channels_last else (plane, 1)
    return SizeStruct(y[0], frames, computed, *y[-2:], y[1] * plane, *pitches)


@lru_cache(1024)
def places(*samples: int) -> ctypes.Array:
    return (ctypes.c_long * len(samples))(*samples)


@lru_cache(1024)
def nothing_after(channels: int) -> tuple[Tensor, Tensor, bool]:
    """Scale, bias and ReLU that change nothing."""
    # Whatever the defaults are.
    ones = torch.ones(channels, dtype=torch.float32, device="cpu")
    return ones, 0 * ones, False


def taps_first(phi: Tensor, axis: str) -> Tensor:
    """(..., taps, C): Φ as it is read along the channels, its taps before them."""
    return phi.detach().float().flatten(2 if axis == "time" else 1).transpose(-1, -2)
