"""What the open paths make of the maps that were computed (section 3.2).

Symbols: N samples, C channels, T frames, H x W pixels; k_i = ceil(C / 2^i) channels are computed
on channel path i, ceil(T / R_j) frames, R_j = 2^j, on time path j. V_c, V_t: the gates.

    channels   Y_c = Σ_i V_c[i] · concat(Y'_i, Φc_i(Y'_i)),   Y'_i = Y[:, :k_i]
    time       Y   = Σ_j V_t[j] · f_t(Y_c, R_j),   frame q + i·R_j = Φt_{j,q}(frame i·R_j)

Φ are depthwise convolutions of one frame, so they commute with leaving frames out: the same two
functions serve training, from all maps and over all paths, and evaluation, from the computed part
and over the open paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = {4: F.conv2d, 5: F.conv3d}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class OpenPath(NamedTuple):
    """One open choice of an axis: the column of its gate, its scale and its Φ, as in `Path`."""

    column: int
    scale: int
    cheap: Tensor | None


class Path(NamedTuple):
    """One open choice of an axis: its gate (N,), its scale (k_i, or R_j) and its Φ.

    The gate is None where another axis multiplies by it. Φ is (C - k_i, 1, ...) on the channel
    axis and (R_j - 1, C, 1, ...) on the time axis; None where the path computes everything.
    """

    gate: Tensor | None
    scale: int
    cheap: Tensor | None


def widths(channels: int, search_space: int) -> tuple[int, ...]:
    """k_i: how many channels each channel path computes."""
    return tuple(math.ceil(channels / 2**i) for i in range(search_space))


def strides(search_space: int) -> tuple[int, ...]:
    """R_j: each time path computes every R_j-th frame."""
    return tuple(2**j for j in range(search_space))


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Φ: one kernel per channel over each frame, size kept."""
    padding = [side // 2 for side in weight.shape[2:]]
    return CONVOLUTIONS[x.ndim](x, weight, None, 1, padding, 1, x.shape[1])


def folded(channel: list[Path], time: list[Path]) -> tuple[list[Path], list[Path]]:
    """With one channel path open, its gate moves to the time paths: a pass over the maps less."""
    if len(channel) != 1 or not time:
        return channel, time
    (only,) = channel
    by = cast(Tensor, only.gate)
    moved = [path._replace(gate=cast(Tensor, path.gate) * by) for path in time]
    return [only._replace(gate=None)], moved


def gate_of(paths: Sequence[Path]) -> Tensor | None:
    """What a map that all these paths hand on is multiplied by."""
    gates = [path.gate for path in paths if path.gate is not None]
    return sum(gates[1:], gates[0]) if gates else None


def weighted_sum(terms: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Σ gate · map; in the first map's own memory where no gradient could need its old value."""
    (out, gate), *others = terms
    if gate is not None:
        factor = _per_sample(gate, out)
        out = out.mul_(factor) if _in_place() else out * factor
    for term, gate in others:
        # One pass; a term without a gate stands alone, as another axis then multiplies.
        factor = _per_sample(cast(Tensor, gate), term)
        out = out.addcmul_(term, factor) if _in_place() else out.addcmul(term, factor)
    return out


def _in_place() -> bool:
    return not torch.is_grad_enabled()


def _per_sample(gate: Tensor, x: Tensor) -> Tensor:
    return gate.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def rebuild_channels(y: Tensor, paths: Sequence[Path], channels: int) -> Tensor:
    """All `channels` channels from the k of the widest open path. May write into `y`.

    Args:
        y: (N, k, [T,] H, W), the computed channels.
        paths: The open ones, widest first; the first one's scale is k.
    """
    cheap = [channels_of(y, path) for path in paths]
    # Between two neighbouring widths every channel is made by the same paths.
    edges = [0, *sorted({path.scale for path in paths}), channels]
    parts = []
    for low, high in pairwise(edges):
        if low == high:
            continue
        terms = []
        if low < paths[0].scale:
            direct = [path for path in paths if path.scale > low]
            terms.append((y[:, low:high], gate_of(direct)))
        for path, rebuilt in zip(paths, cheap, strict=True):
            if path.scale <= low and rebuilt is not None:
                terms.append((rebuilt[:, low - path.scale : high - path.scale], path.gate))
        parts.append(weighted_sum(terms))
    if _in_place() and paths[0].scale == channels:
        return y
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def channels_of(y: Tensor, path: Path) -> Tensor | None:
    """Φc_i(Y'_i): rebuilt channel c is made from computed channel c mod k_i."""
    if path.cheap is None or not len(path.cheap):
        return None
    chunks = [depthwise(y[:, : len(weight)], weight) for weight in path.cheap.split(path.scale)]
    return torch.cat(chunks, 1) if len(chunks) > 1 else chunks[0]


def rebuild_frames(y: Tensor, paths: Sequence[Path], frames: int) -> Tensor:
    """All `frames` frames from those of the densest open path. May write into `y`.

    Args:
        y: (N, C, ceil(T / R), H, W), the computed frames.
        paths: The open ones, smallest R first.
    """
    step = paths[0].scale
    period = paths[-1].scale
    rebuilt = {
        path.scale: frames_of(y[:, :, :: path.scale // step], path, frames) for path in paths
    }
    phases = []
    for phase in range(min(period, frames)):
        terms = []
        direct = [path for path in paths if phase % path.scale == 0]
        if direct:
            terms.append((y[:, :, phase // step :: period // step], gate_of(direct)))
        for path in paths:
            place, part = phase // path.scale, phase % path.scale
            if part:
                every = period // path.scale
                terms.append((rebuilt[path.scale][part - 1][:, :, place::every], path.gate))
        phases.append(weighted_sum(terms))
    return y if _in_place() and step == 1 else interleave(phases)


def frames_of(base: Tensor, path: Path, frames: int) -> list[Tensor]:
    """Φt_{j,q}(frame i·R_j) for q = 1, ..., R_j - 1; just the frames that exist."""
    if path.cheap is None:
        return []
    counts = [len(range(q, frames, path.scale)) for q in range(1, path.scale)]
    pairs = zip(path.cheap, counts, strict=True)
    return [depthwise(base[:, :, :n], weight) for weight, n in pairs if n]


def interleave(phases: Sequence[Tensor]) -> Tensor:
    """Frame i of phase p becomes frame i·P + p of P phases, of which the last may be shorter."""
    if len(phases) == 1:
        return phases[0]
    frames, longest = sum(p.shape[2] for p in phases), phases[0].shape[2]
    padded = [F.pad(p, (0, 0, 0, 0, 0, longest - p.shape[2])) if p.shape[2] < longest else p
              for p in phases]  # fmt: skip
    if phases[0].is_contiguous(memory_format=torch.channels_last_3d):
        last = [p.permute(0, 2, 3, 4, 1) for p in padded]
        return torch.stack(last, 2).flatten(1, 2).permute(0, 4, 1, 2, 3)[:, :, :frames]
    return torch.stack(padded, 3).flatten(2, 3)[:, :, :frames]
