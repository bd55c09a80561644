"""What the open paths make of the maps that were computed (section 3.2, equations 1, 2 and 4).

Symbols: N samples, C channels, T frames, H x W pixels; k_i = ceil(C / 2^i) channels are computed
on channel path i, ceil(T / R_j) frames, R_j = 2^j, on time path j. V_c, V_t: the gates.

    channels   Y_c = Σ_i V_c[i] · concat(Y'_i, Φc_i(Y'_i)),   Y'_i = Y[:, :k_i]
    time       Y   = Σ_j V_t[j] · f_t(Y_c, R_j),   frame q + i·R_j = Φt_{j,q}(frame i·R_j)

Φ are depthwise convolutions of one frame, so they commute with leaving frames out: the same
function serves training, from all maps and over all paths, and evaluation, from the computed part
and over the open paths. A path whose gate is 0 adds nothing, so that over all paths the answer is
also that of those that are open: a trace or an export, which cannot choose, takes all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = {4: F.conv2d, 5: F.conv3d}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def convolved(x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    """torch's convolution; settings are its bias, stride, padding, dilation and groups."""
    if reads_one_channel(weight, settings[-1]):
        x, weight = in_planes(x), in_planes(weight)
    return CONVOLUTIONS[x.ndim](x, weight, *settings)


def reads_one_channel(weight: Tensor, groups: int) -> bool:
    """Whether each filter reads one channel, and is not the only one to read it.

    Where such maps or weights lie channels last, or only seem to by their strides, oneDNN may read
    other memory and make numbers of any size.
    """
    return weight.shape[1] == 1 and (groups == 1 or weight.shape[0] > groups)


def in_planes(x: Tensor) -> Tensor:
    """Contiguous, also by the strides of what has one channel."""
    return x.contiguous().flatten().view(x.shape)


class OpenPath(NamedTuple):
    """A choice of an axis.

    Attributes:
        column: Of its gate in (N, G).
        scale: k_i on the channel axis, R_j on the time axis.
        cheap: Φ, (C - k_i, 1, [1,] k, k) on the channel axis, (R_j - 1, C, 1, 1, k, k) on the time
            axis, k the side of its kernels; None where the path computes everything.
    """

    column: int
    scale: int
    cheap: Tensor | None


def widths(channels: int, search_space: int) -> tuple[int, ...]:
    """k_i: how many channels each channel path computes."""
    return tuple(math.ceil(channels / 2**i) for i in range(search_space))


def strides(search_space: int) -> tuple[int, ...]:
    """R_j: each time path computes every R_j-th frame."""
    return tuple(2**j for j in range(search_space))


class Rebuild(NamedTuple):
    """What was computed, and what is to be made of it.

    Attributes:
        y: (N, k, [F,] H, W), the channels and frames of the widest and the densest open path.
        gates: (N, G), S numbers for each axis, channel first.
        cheap_channel: Φc of the channel paths after the first, as in `OpenPath`; none where the
            convolution lacks the axis.
        cheap_time: Φt, likewise.
        pattern: Which of the G are open, one at least of each axis. In training all of them, and y
            is the whole convolution's output; in evaluation those above zero.
        channels: C.
        frames: T; 1 of images.
    """

    y: Tensor
    gates: Tensor
    cheap_channel: list[Tensor]
    cheap_time: list[Tensor]
    pattern: list[bool]
    channels: int
    frames: int

    def open_paths(self) -> tuple[list[OpenPath], list[OpenPath]]:
        return open_paths(self.pattern, self.channels, self.cheap_channel, self.cheap_time)


def open_paths(
    pattern: Sequence[bool],
    channels: int,
    cheap_channel: Sequence[Tensor],
    cheap_time: Sequence[Tensor],
) -> tuple[list[OpenPath], list[OpenPath]]:
    """Those of the channel axis and those of the time axis, the most computed first."""
    paths: tuple[list[OpenPath], list[OpenPath]] = [], []
    column = 0
    scales = widths(channels, 1 + len(cheap_channel)), strides(1 + len(cheap_time))
    for found, own, phis in zip(paths, scales, (cheap_channel, cheap_time), strict=True):
        for scale, cheap in zip(own, [None, *phis], strict=True) if phis else ():
            if pattern[column]:
                found.append(OpenPath(column, scale, cheap))
            column += 1
    return paths


def rebuild_by_definition(*arguments: Any) -> Tensor:
    """Y by the two sums, whatever traces, transforms or differentiates them.

    Arguments as of `Rebuild`.
    """
    of = Rebuild(*arguments)
    y, (channel, time) = of.y, of.open_paths()
    if channel:
        y = rebuild_channels(y, of.gates, channel)
    return rebuild_frames(y, of.gates, time, of.frames) if time else y


def rebuild_channels(y: Tensor, gates: Tensor, paths: Sequence[OpenPath]) -> Tensor:
    """Y_c (N, C, [T,] H, W) from the channels of the widest open path."""
    parts = []
    for path in paths:
        own = y[:, : path.scale]
        if path.cheap is not None:
            # Rebuilt channel c is made from computed channel c mod k_i.
            split = path.cheap.split(path.scale)
            own = torch.cat([own, *(depthwise(own[:, : len(phi)], phi) for phi in split)], 1)
        parts.append(own * gate_of(gates, path, y))
    return sum(parts[1:], parts[0])


def rebuild_frames(y: Tensor, gates: Tensor, paths: Sequence[OpenPath], frames: int) -> Tensor:
    """Y (N, C, T, H, W) from the frames of the densest open path."""
    parts = []
    for path in paths:
        base = y[:, :, :: path.scale // paths[0].scale]
        phases = [
            base,
            *(depthwise(base, phi) for phi in (() if path.cheap is None else path.cheap)),
        ]
        every = torch.stack(phases, 3).flatten(2, 3)[:, :, :frames]
        parts.append(every * gate_of(gates, path, y))
    return sum(parts[1:], parts[0])


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Φ: one kernel per channel over each frame, size kept."""
    padding = [side // 2 for side in weight.shape[2:]]
    return CONVOLUTIONS[x.ndim](x, weight, None, 1, padding, 1, x.shape[1])


def gate_of(gates: Tensor, path: OpenPath, x: Tensor) -> Tensor:
    return gates[:, path.column].to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def frames_of(maps: Tensor) -> int:
    """T of (N, C, T, H, W); an image is one frame."""
    return maps.shape[2] if maps.ndim == 5 else 1


def new_maps(like: Tensor, channels: int, frames: int) -> Tensor:
    """(N, channels, [frames,] H, W) in the layout of `like`."""
    time = (frames,) if like.ndim == 5 else ()
    shape = (like.shape[0], channels, *time, *like.shape[-2:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout_of(like))


def layout_of(x: Tensor) -> torch.memory_format:
    return LAYOUTS[x.ndim] if x.stride(1) == 1 else torch.contiguous_format
