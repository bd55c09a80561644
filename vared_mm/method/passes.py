"""`rebuild_by_definition` in few passes over the maps, and its gradient by hand.

Symbols as in `rebuild`; g is the gradient of the output. An axis is linear in the maps x and in its
gates V. Its path i keeps a part x_i of x as it is and rebuilds the rest from that:

    out = Σ_i V[i] · (x_i, Φ_i(x_i)),   u_i = g where x_i stands + Φ_iᵀ(g of the rest)
    dx_i += V[i]·u_i,   dV[i] = <u_i, x_i>,   dΦ_i: the kernels' gradient from V[i]·x_i and g

Autograd would pass over the maps several times as often: the gradient of each slice is a map of
zeros with a part filled in, and every product is kept.

Frames that the first time path alone keeps, and from which nothing is rebuilt, take its gate from
the channels' gates, into which it is multiplied: a pass less. The others are bases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.method.errors import DynamicError
from vared_mm.method.operators import define, differentiate, wants_torch_alone
from vared_mm.method.rebuild import LAYOUTS, OpenPath, open_paths, rebuild_by_definition

Index = tuple[slice, ...]
ALL = slice(None)
# Of the maps worked on together on a CPU: about what stays in the cache between two passes.
CACHED_BYTES = 4 << 20


def rebuild(
    y: Tensor,
    gates: Tensor,
    cheap_channel: Sequence[Tensor],
    cheap_time: Sequence[Tensor],
    pattern: Sequence[bool],
    channels: int,
    frames: int,
) -> Tensor:
    """All maps, (N, C, [T,] H, W) in the layout of y, from those that were computed.

    Args:
        y: (N, k, [F,] H, W), the channels and frames of the widest and the densest open path.
        gates: (N, G), S numbers for each axis, channel first.
        cheap_channel, cheap_time: Φ of the paths after an axis's first, as in `OpenPath`; none of
            an axis that the convolution lacks.
        pattern: Which of the G are open, one at least of each axis. In training all of them, and y
            is the whole convolution's output; in evaluation those above zero.
        channels, frames: C and T; frames of images are 1.

    Raises:
        DynamicError: There is not a row of gates for each sample, a number for each path.
    """
    if gates.shape != (y.shape[0], len(pattern)):
        raise DynamicError(
            f"{y.shape[0]} samples with {len(pattern)} paths came with gates of "
            f"{tuple(gates.shape)}, and each wants a row; does a hook answer in its place?"
        )
    arguments = y, gates, list(cheap_channel), list(cheap_time), list(pattern), channels, frames
    if wants_torch_alone(y, gates, *cheap_channel, *cheap_time):
        return rebuild_by_definition(*arguments)
    return REBUILD(*arguments)


class Part(NamedTuple):
    """What one kernel per channel rebuilds: rows of Φ_i, from where in x_i, to where in out."""

    rows: slice
    source: Index
    target: Index


class Route(NamedTuple):
    """A path: where x_i is in x, where it stands in out, and the parts it rebuilds by Φ_i."""

    source: Index
    kept: Index
    parts: list[Part]
    cheap: Tensor | None


class Plan(NamedTuple):
    """How the open paths of one convolution are computed.

    Args:
        channel, time: The routes of each axis; those of time lead from the bases to the output.
        columns: Of the gates, those of `channel` and those of `time`.
        channels: C.
        alone: The column of the first time path, if there are frames that it alone keeps.
        every: Each so many-th computed frame is a base; 0 where none is.
    """

    channel: list[Route]
    time: list[Route]
    columns: tuple[list[int], list[int]]
    channels: int
    alone: int | None
    every: int

    def channel_gates(self, gates: Tensor) -> Tensor:
        """(N, paths, 1); of an axis that there is not, one path whose gate is 1."""
        columns, _ = self.columns
        return gates[:, columns, None] if columns else gates.new_ones(len(gates), 1, 1)

    def time_gates(self, gates: Tensor) -> Tensor:
        """(N, paths, 1)."""
        return gates[:, self.columns[1], None]

    def factor(self, gates: Tensor, frames: int) -> Tensor:
        """(N, 1, F or 1): by what the channels' gates are multiplied at each computed frame."""
        if self.alone is None:
            return gates.new_ones(len(gates), 1, 1)
        gate = gates[:, self.alone, None, None]
        return torch.where(self.is_base(frames, gates), 1, gate) if self.every else gate

    def is_base(self, frames: int, gates: Tensor) -> Tensor:
        return torch.arange(frames, device=gates.device) % self.every == 0

    def bases(self, y: Tensor, by_channel: Tensor) -> Tensor:
        """What the channel axis makes of the computed frames that are bases."""
        base = y[:, :, :: self.every]
        if not self.columns[0]:
            return base
        out = new_maps(base, self.channels, base.shape[2])
        combine(self.channel, base, by_channel, out)
        return out


def plan_of(
    cheap_channel: list[Tensor],
    cheap_time: list[Tensor],
    pattern: list[bool],
    channels: int,
    frames: int,
) -> Plan:
    channel, time = open_paths(pattern, channels, cheap_channel, cheap_time)
    alone, every = None, 1 if time else 0
    if time and time[0].scale == 1:
        alone, every = time[0].column, time[1].scale if len(time) > 1 else 0
    return Plan(
        channel_routes(channel, channels) or [Route((ALL,), (ALL,), [], None)],
        frame_routes(time, frames) if every else [],
        ([path.column for path in channel], [path.column for path in time] if every else []),
        channels, alone, every,
    )  # fmt: skip


def _by_torch(
    y: Tensor,
    gates: Tensor,
    cheap_channel: list[Tensor],
    cheap_time: list[Tensor],
    pattern: list[bool],
    channels: int,
    frames: int,
) -> Tensor:
    out = new_maps(y, channels, frames)
    plan = plan_of(cheap_channel, cheap_time, pattern, channels, frames)
    maps, whole = as_clips(y), as_clips(out)
    by_channel, by_time = plan.channel_gates(gates), plan.time_gates(gates)
    scaled = by_channel * plan.factor(gates, maps.shape[2])
    for n in batches(whole):
        if plan.every == 1:
            base = plan.bases(maps[n], by_channel[n])
        else:
            combine(plan.channel, maps[n], scaled[n], whole[n])
            base = compact(whole[n][:, :, :: plan.every]) if plan.every else whole[n]
        if plan.every:
            combine(plan.time, base, by_time[n], whole[n])
    return out


def _backward_by_torch(
    g: Tensor,
    y: Tensor,
    gates: Tensor,
    cheap_channel: list[Tensor],
    cheap_time: list[Tensor],
    pattern: list[bool],
    channels: int,
    frames: int,
) -> list[Tensor]:
    dy, d_gates, *d_cheap = _gradients_like(y, gates, cheap_channel, cheap_time)
    plan = plan_of(cheap_channel, cheap_time, pattern, channels, frames)
    # The first path of an axis has no Φ.
    d_phi = [None] * bool(cheap_channel) + d_cheap[: len(cheap_channel)]
    d_phi += [None] * bool(cheap_time) + d_cheap[len(cheap_channel) :]
    d_phi_channel, d_phi_time = ([d_phi[i] for i in columns] for columns in plan.columns)
    maps, d_y, g = as_clips(y), as_clips(dy), as_clips(g.contiguous(memory_format=layout_of(y)))
    by_channel, by_time = plan.channel_gates(gates), plan.time_gates(gates)
    factor = plan.factor(gates, maps.shape[2])
    scaled = by_channel * factor
    for n in batches(g):
        d_maps = g[n]
        if plan.every:
            # Computed again: to keep them would take half the memory of y.
            base = plan.bases(maps[n], by_channel[n])
            d_maps = torch.empty_like(base) if plan.every == 1 else compact(d_maps)
            d_time = differentiate_routes(
                plan.time, g[n], base, by_time[n], d_maps[:, :, :: plan.every], d_phi_time
            )
            d_gates[n, plan.columns[1]] += d_time.squeeze(2)
        d_scaled = differentiate_routes(
            plan.channel, d_maps, maps[n], scaled[n], d_y[n], d_phi_channel or [None]
        )
        if plan.columns[0]:
            d_gates[n, plan.columns[0]] += (d_scaled * factor[n]).sum(2)
        if plan.alone is not None:
            d_alone = (d_scaled * by_channel[n]).sum(1)
            if plan.every:
                d_alone = d_alone.masked_fill(plan.is_base(maps.shape[2], gates), 0)
            d_gates[n, plan.alone] += d_alone.sum(1)
    return [dy, d_gates, *d_cheap]


def _gradients_like(
    y: Tensor, gates: Tensor, cheap_channel: list[Tensor], cheap_time: list[Tensor]
) -> list[Tensor]:
    """Of y without numbers, all others zero."""
    zeros = map(torch.zeros_like, (gates, *cheap_channel, *cheap_time))
    return [new_maps(y, y.shape[1], y.shape[2] if y.ndim == 5 else 1), *zeros]


def _flops(
    y: Sequence[int], gates: Sequence[int], cheap_channel: Sequence[Sequence[int]],
    cheap_time: Sequence[Sequence[int]], pattern: Sequence[bool], channels: int, frames: int,
) -> int:  # fmt: skip
    """Two for each tap of what the open paths rebuild."""
    computed_frames = y[2] if len(y) == 5 else 1
    spaces = [1 + len(cheap) if cheap else 0 for cheap in (cheap_channel, cheap_time)]
    rebuilt, taps = 0, 0
    for i, phi in enumerate(cheap_channel, 1):
        taps = math.prod(phi[1:])
        rebuilt += phi[0] * computed_frames * pattern[i]
    for j, phi in enumerate(cheap_time, 1):
        taps = math.prod(phi[2:])
        kept = math.ceil(frames / 2**j)
        rebuilt += channels * (frames - kept) * pattern[spaces[0] + j]
    return 2 * y[0] * rebuilt * taps * y[-2] * y[-1]


REBUILD = define(
    "rebuild(Tensor y, Tensor gates, Tensor[] cheap_channel, Tensor[] cheap_time, bool[] pattern, "
    "SymInt channels, SymInt frames) -> Tensor",
    _by_torch,
    lambda y, gates, cheap_channel, cheap_time, pattern, channels, frames: new_maps(
        y, channels, frames
    ),
    _flops,
)
REBUILD_BACKWARD = define(
    "rebuild_backward(Tensor g, Tensor y, Tensor gates, Tensor[] cheap_channel, "
    "Tensor[] cheap_time, bool[] pattern, SymInt channels, SymInt frames) -> Tensor[]",
    _backward_by_torch,
    lambda g, y, gates, cheap_channel, cheap_time, *_: _gradients_like(
        y, gates, cheap_channel, cheap_time
    ),
    # What is rebuilt, backward through y and through Φ.
    lambda g, *arguments: 2 * _flops(*arguments),
)


def _backward(g: Tensor, *arguments: Any) -> tuple:
    _, _, cheap_channel, *_ = arguments
    dy, d_gates, *d_cheap = REBUILD_BACKWARD(g, *arguments)
    count = len(cheap_channel)
    return dy, d_gates, d_cheap[:count], d_cheap[count:], None, None, None


differentiate(REBUILD, rebuild_by_definition, _backward)


def batches(y: Tensor) -> list[slice]:
    """Samples to work on together: few enough for a CPU's cache."""
    samples = len(y)
    if y.device.type == "cpu" and y.numel():
        samples = max(1, CACHED_BYTES // (y[0].numel() * y.element_size()))
    return [slice(start, start + samples) for start in range(0, len(y), samples)]


def channel_routes(paths: Sequence[OpenPath], channels: int) -> list[Route]:
    """Path i keeps channels 0 to k_i; rebuilt channel c is made from channel c mod k_i."""
    routes = []
    for _, k, cheap in paths:
        kept, parts = (ALL, slice(k)), []
        for start in range(k, channels, k):
            stop = min(start + k, channels)
            source, target = (ALL, slice(stop - start)), (ALL, slice(start, stop))
            parts.append(Part(slice(start - k, stop - k), source, target))
        routes.append(Route(kept, kept, parts, cheap))
    return routes


def frame_routes(paths: Sequence[OpenPath], frames: int) -> list[Route]:
    """Path j keeps every R_j-th frame; x are the bases, from which all but the first rebuild."""
    routes = []
    every = max(paths[0].scale, paths[1].scale if paths[0].scale == 1 else 1)
    for _, step, cheap in paths:
        parts = []
        for q in range(1, min(step, frames)):
            source, target = slice(len(range(q, frames, step))), slice(q, None, step)
            parts.append(Part(slice(q - 1, q), (ALL, ALL, source), (ALL, ALL, target)))
        source, kept = slice(None, None, max(1, step // every)), slice(None, None, max(step, every))
        routes.append(Route((ALL, ALL, source), (ALL, ALL, kept), parts, cheap))
    return routes


def combine(routes: list[Route], x: Tensor, gates: Tensor, out: Tensor) -> None:
    """Writes Σ_i V[i] · (x_i, Φ_i(x_i)) into `out`, where the first route's writes come first.

    Args:
        gates: (N, S, T or 1).
    """
    for i, route in enumerate(routes):
        own, gate = gapless(x[route.source]), per_frame(gates[:, i], x)
        add(own, gate, out[route.kept], first=i == 0)
        for part, kernel in kernels(route, x):
            rebuilt = volume(depthwise(images(own[part.source]), kernel), len(x))
            add(rebuilt, gate, out[part.target], first=i == 0)


def add(x: Tensor, gate: Tensor, out: Tensor, first: bool) -> None:
    if first:
        torch.mul(x, gate, out=out)
    else:
        out.addcmul_(x, gate)


def differentiate_routes(
    routes: list[Route],
    g: Tensor,
    x: Tensor,
    gates: Tensor,
    dx: Tensor,
    d_cheap: Sequence[Tensor | None],
) -> Tensor:
    """Writes the gradient of x into `dx`, adds Φ's to `d_cheap`, returns that of the gates."""
    d_gates = torch.empty_like(gates)
    for i, (route, d_phi) in enumerate(zip(routes, d_cheap, strict=True)):
        gate, kept, d_own = per_frame(gates[:, i], x), g[route.kept], dx[route.source]
        if i == 0 and not route.parts:
            d_gates[:, 0] = frame_sums(torch.mul(kept, x, out=dx), gates)
            torch.mul(kept, gate, out=dx)
            continue
        own, u = gapless(x[route.source]), compact(kept)
        scaled = own * gate
        for part, kernel in kernels(route, x):
            incoming = images(g[part.target])
            # Φᵀ is Φ with its kernels turned round; on CPU faster than its input gradient.
            u[part.source] += volume(depthwise(incoming, kernel.flip(-1, -2)), len(x))
            d_rows = d_phi[part.rows]  # type: ignore[index]
            d_rows += kernel_gradient(incoming, images(scaled[part.source]), kernel).view_as(d_rows)
        add(u, gate, d_own, first=i == 0)
        d_gates[:, i] = frame_sums(u.mul_(own), gates)
    return d_gates


def kernels(route: Route, x: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """Each part with its kernels, (C, 1, k, k)."""
    for part in route.parts:
        assert route.cheap is not None
        kernel = route.cheap[part.rows].to(x.dtype)
        yield part, kernel.reshape(-1, 1, *kernel.shape[-2:])


def per_frame(gate: Tensor, x: Tensor) -> Tensor:
    return gate.to(x.dtype)[:, None, :, None, None]


def frame_sums(x: Tensor, gates: Tensor) -> Tensor:
    """(N, T), or (N, 1) where the gates are the same for all frames."""
    return x.sum((1, 3, 4), dtype=gates.dtype).sum_to_size(len(x), gates.shape[2])


def as_clips(x: Tensor) -> Tensor:
    """(N, C, T, H, W): images are clips of one frame."""
    return x if x.ndim == 5 else x.unsqueeze(2)


def new_maps(like: Tensor, channels: int, frames: int) -> Tensor:
    """(N, channels, [frames,] H, W) in the layout of `like`."""
    time = (frames,) if like.ndim == 5 else ()
    shape = (like.shape[0], channels, *time, *like.shape[-2:])
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=layout_of(like)
    )


def layout_of(x: Tensor) -> torch.memory_format:
    return LAYOUTS[x.ndim] if x.stride(1) == 1 else torch.contiguous_format


def compact(x: Tensor) -> Tensor:
    """A copy without gaps."""
    return x.clone(memory_format=layout_of(x))


def gapless(x: Tensor) -> Tensor:
    """Itself where it has no gaps."""
    return x.contiguous(memory_format=layout_of(x))


def images(x: Tensor) -> Tensor:
    """(N·T, C, H, W): depthwise convolutions of images are far faster than those of volumes."""
    x = gapless(x) if x.stride(1) == 1 else x
    return x.transpose(1, 2).flatten(0, 1)


def volume(x: Tensor, samples: int) -> Tensor:
    return x.unflatten(0, (samples, -1)).transpose(1, 2)


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel, None, 1, kernel.shape[-1] // 2, 1, len(kernel))


def kernel_gradient(g: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    pad = [kernel.shape[-1] // 2] * 2
    return torch.ops.aten.convolution_backward(
        g, x, kernel, None, [1, 1], pad, [1, 1], False, [0, 0], len(kernel), [False, True, False]
    )[1]
