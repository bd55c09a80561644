"""One axis of `vared_mm.method.equations` in few passes over the maps, and its gradient by hand.

Symbols as there; g is the gradient of the output. An axis is linear in the maps x and in its gates
V. Its path i keeps a part x_i of x as it is and rebuilds the rest from that:

    out = Σ_i V[i] · (x_i, Φ_i(x_i)),   u_i = g where x_i stands + Φ_iᵀ(g of the rest)
    dx_i += V[i]·u_i,   dV[i] = <u_i, x_i>,   dΦ_i: the kernels' gradient from V[i]·x_i and g

Autograd would pass over the maps several times as often: the gradient of each slice is a map of
zeros with a part filled in, and every product is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.method.equations import OpenPath, layout_of

Index = tuple[slice, ...]
ALL = slice(None)


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
        for part, kernel in kernels_of(route, x):
            rebuilt = volume(depthwise_images(images(own[part.source]), kernel), len(x))
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
        for part, kernel in kernels_of(route, x):
            incoming = images(g[part.target])
            # Φᵀ is Φ with its kernels turned round; on CPU faster than its input gradient.
            u[part.source] += volume(depthwise_images(incoming, kernel.flip(-1, -2)), len(x))
            d_rows = d_phi[part.rows]  # type: ignore[index]
            d_rows += kernel_gradient(incoming, images(scaled[part.source]), kernel).view_as(d_rows)
        add(u, gate, d_own, first=i == 0)
        d_gates[:, i] = frame_sums(u.mul_(own), gates)
    return d_gates


def kernels_of(route: Route, x: Tensor) -> Iterator[tuple[Part, Tensor]]:
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


def depthwise_images(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel, None, 1, kernel.shape[-1] // 2, 1, len(kernel))


def kernel_gradient(g: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    pad = [kernel.shape[-1] // 2] * 2
    return torch.ops.aten.convolution_backward(
        g, x, kernel, None, [1, 1], pad, [1, 1], False, [0, 0], len(kernel), [False, True, False]
    )[1]
