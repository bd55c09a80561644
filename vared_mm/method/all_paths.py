"""Every path at once, for training: the sums of `rebuild`, with their gradient by hand.

Symbols as in `rebuild`; g is the gradient of the output. An axis is linear in the maps x and in its
gates V. Its path i keeps a part x_i of x as it is and rebuilds the rest from that:

    out = Σ_i V[i] · (x_i, Φ_i(x_i)),   u_i = g where x_i stands + Φ_iᵀ(g of the rest)
    dx_i += V[i]·u_i,   dV[i] = <u_i, x_i>,   dΦ_i: the kernels' gradient from V[i]·x_i and g

Autograd would pass over the maps several times as often: the gradient of each slice is a map of
zeros with a part filled in, and every product is kept.

Frames 1, 3, 5, ... are kept by the first time path alone and nothing is rebuilt from them. There
its gate is multiplied into the channels' gates: a pass less, and no need to keep what it scales.

On a CPU, float32 maps are left to `all_paths_native`, which is several times as fast; what stands
here serves all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vared_mm.method.all_paths_native import kernels_serve, native_paths

Index = tuple[slice, ...]
ALL = slice(None)
# Of the maps worked on together on a CPU: about what stays in the cache between two passes.
CACHED_BYTES = 4 << 20


class Part(NamedTuple):
    """What one kernel per channel rebuilds: rows of Φ_i, from where in x_i, to where in out."""

    rows: slice
    source: Index
    target: Index


class Route(NamedTuple):
    """A path: where x_i is in x, where it stands in out, and the parts it rebuilds."""

    source: Index
    kept: Index
    parts: list[Part]


def all_paths(
    y: Tensor,
    channel: Tensor | None,
    time: Tensor | None,
    cheap_channel: Sequence[Tensor],
    cheap_time: Sequence[Tensor],
) -> Tensor:
    """Y from all maps, over all paths; once differentiable.

    Args:
        y: (N, C, [T,] H, W), the full convolution's output.
        channel, time: (N, S) gates; None where there is no such axis.
        cheap_channel, cheap_time: Φ of the paths after the first, as in `rebuild.Path`.
    """
    volume = y if y.ndim == 5 else y.unsqueeze(2)
    cheap = (*cheap_channel, *cheap_time)
    one = y.new_ones(len(y), 1)
    by_axis = (one if channel is None else channel, one if time is None else time)
    if kernels_serve(volume, by_axis, cheap):
        out = native_paths(volume, *by_axis, *cheap)
    else:
        out = _by_torch(volume, channel, time, len(cheap_channel), *cheap)
    return out if y.ndim == 5 else out.squeeze(2)


def _by_torch(
    y: Tensor, channel: Tensor | None, time: Tensor | None, count: int, *cheap: Tensor
) -> Tensor:
    gates = y.new_ones(len(y), 1, 1) if channel is None else channel[:, :, None]
    if time is not None:
        odd = torch.arange(y.shape[2], device=y.device) % 2 == 1
        gates = gates * torch.where(odd, time[:, :1], 1)[:, None]
    return _AllPaths.apply(y, gates, time, count, *cheap)


class _AllPaths(torch.autograd.Function):
    """Keeps nothing but its inputs."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gates: Tensor, time: Tensor | None, count: int, *cheap: Tensor
    ) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(y, gates, time, *cheap)
        phi, phi_time = cheap[:count], cheap[count:]
        channels, frames = channel_routes(y, phi), frame_routes(y, phi_time)
        out = torch.empty_like(y)
        for n in batches(y):
            combine(channels, y[n], gates[n], phi, out[n])
            if time is not None:
                base = compact(out[n, :, ::2])
                combine(frames, base, time[n, :, None], phi_time, out[n])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        y, gates, time, *cheap = ctx.saved_tensors
        phi, phi_time = cheap[: ctx.count], cheap[ctx.count :]
        d_cheap = [torch.zeros_like(weight) for weight in cheap]
        d_phi, d_phi_time = d_cheap[: ctx.count], d_cheap[ctx.count :]
        channels, frames = channel_routes(y, phi), frame_routes(y, phi_time)
        g = g.contiguous(memory_format=layout_of(y))
        dy, d_gates = torch.empty_like(y), torch.empty_like(gates)
        d_time = None if time is None else torch.empty_like(time)
        for n in batches(y):
            d_maps = g[n]
            if d_time is not None:
                # Computed again: to keep it would take half the memory of y.
                base = torch.empty_like(y[n, :, ::2])
                combine(channels, y[n, :, ::2], gates[n, :, ::2], phi, base)
                d_maps = compact(d_maps)
                d_time[n] = differentiate(
                    frames, g[n], base, time[n, :, None], phi_time, d_maps[:, :, ::2], d_phi_time
                ).squeeze(2)
            d_gates[n] = differentiate(channels, d_maps, y[n], gates[n], phi, dy[n], d_phi)
        return dy, d_gates, d_time, None, *d_cheap


def batches(y: Tensor) -> list[slice]:
    """Samples to work on together: few enough for a CPU's cache."""
    samples = len(y)
    if y.device.type == "cpu":
        samples = max(1, CACHED_BYTES // (y[0].numel() * y.element_size()))
    return [slice(start, start + samples) for start in range(0, len(y), samples)]


def channel_routes(y: Tensor, cheap: Sequence[Tensor]) -> list[Route]:
    """Path i keeps channels 0 to k_i; rebuilt channel c is made from channel c mod k_i."""
    channels, routes = y.shape[1], []
    for k in (channels, *(channels - len(weight) for weight in cheap)):
        kept, parts = (ALL, slice(k)), []
        for start in range(k, channels, k):
            stop = min(start + k, channels)
            source, target = (ALL, slice(stop - start)), (ALL, slice(start, stop))
            parts.append(Part(slice(start - k, stop - k), source, target))
        routes.append(Route(kept, kept, parts))
    return routes


def frame_routes(y: Tensor, cheap: Sequence[Tensor]) -> list[Route]:
    """Path j keeps every R_j-th frame; x are frames 0, 2, 4, ... of y's."""
    frames, every = y.shape[2], slice(None, None, 2)
    routes = [Route((ALL,), (ALL, ALL, every), [])]
    for step in (2**j for j in range(1, len(cheap) + 1)):
        parts = []
        for q in range(1, min(step, frames)):
            source, target = slice(len(range(q, frames, step))), slice(q, None, step)
            parts.append(Part(slice(q - 1, q), (ALL, ALL, source), (ALL, ALL, target)))
        source, kept = slice(None, None, step // 2), slice(None, None, step)
        routes.append(Route((ALL, ALL, source), (ALL, ALL, kept), parts))
    return routes


def combine(
    routes: list[Route], x: Tensor, gates: Tensor, cheap: Sequence[Tensor], out: Tensor
) -> None:
    """Writes Σ_i V[i] · (x_i, Φ_i(x_i)) into `out`.

    Args:
        gates: (N, S, T or 1).
    """
    torch.mul(x, per_frame(gates[:, 0], x), out=out[routes[0].kept])
    for i, (route, phi) in enumerate(zip(routes[1:], cheap, strict=True), 1):
        own, gate = gapless(x[route.source]), per_frame(gates[:, i], x)
        out[route.kept].addcmul_(own, gate)
        for part, kernel in kernels(route, phi, x):
            rebuilt = depthwise(images(own[part.source]), kernel)
            out[part.target].addcmul_(volume(rebuilt, len(x)), gate)


def differentiate(
    routes: list[Route],
    g: Tensor,
    x: Tensor,
    gates: Tensor,
    cheap: Sequence[Tensor],
    dx: Tensor,
    d_cheap: Sequence[Tensor],
) -> Tensor:
    """Writes the gradient of x into `dx`, adds Φ's to `d_cheap`, returns that of the gates."""
    d_gates, kept = torch.empty_like(gates), g[routes[0].kept]
    d_gates[:, 0] = frame_sums(torch.mul(kept, x, out=dx), gates)
    torch.mul(kept, per_frame(gates[:, 0], x), out=dx)
    for i, (route, phi, d_phi) in enumerate(zip(routes[1:], cheap, d_cheap, strict=True), 1):
        own, gate = gapless(x[route.source]), per_frame(gates[:, i], x)
        u, scaled = compact(g[route.kept]), own * gate
        for part, kernel in kernels(route, phi, x):
            incoming = images(g[part.target])
            # Φᵀ is Φ with its kernels turned round; on CPU faster than its input gradient.
            u[part.source] += volume(depthwise(incoming, kernel.flip(-1, -2)), len(x))
            d_rows = d_phi[part.rows]
            d_rows += kernel_gradient(incoming, images(scaled[part.source]), kernel).view_as(d_rows)
        dx[route.source].addcmul_(u, gate)
        d_gates[:, i] = frame_sums(u.mul_(own), gates)
    return d_gates


def kernels(route: Route, phi: Tensor, x: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """Each part with its kernels, (C, 1, k, k)."""
    for part in route.parts:
        kernel = phi[part.rows].to(x.dtype)
        yield part, kernel.reshape(-1, 1, *kernel.shape[-2:])


def per_frame(gate: Tensor, x: Tensor) -> Tensor:
    return gate.to(x.dtype)[:, None, :, None, None]


def frame_sums(x: Tensor, gates: Tensor) -> Tensor:
    """(N, T), or (N, 1) where the gates are the same for all frames."""
    return x.sum((1, 3, 4), dtype=gates.dtype).sum_to_size(len(x), gates.shape[2])


def layout_of(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.stride(1) == 1 else torch.contiguous_format


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
