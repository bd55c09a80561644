"""`rebuild` in few passes over the maps, by torch's operations, and its gradient by hand.

Axis by axis; symbols as in `vared_mm.method.equations`. Frames that the first time path alone
keeps, and from which nothing is rebuilt, take its gate from the channels' gates, into which it is
multiplied: a pass less. The others are bases.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vared_mm.kernels.axis import (
    ALL,
    Route,
    as_clips,
    channel_routes,
    combine,
    compact,
    differentiate_routes,
    frame_routes,
)
from vared_mm.method.equations import Rebuild, frames_of, layout_of, new_maps
from vared_mm.method.operators import Operator
from vared_mm.method.rebuild import ARGUMENTS, REBUILD, flops_of_rebuild

# Of the maps worked on together on a CPU: about what stays in the cache between two passes.
CACHED_BYTES = 4 << 20


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


def plan_of(of: Rebuild) -> Plan:
    channel, time = of.open_paths()
    alone, every = None, 1 if time else 0
    if time and time[0].scale == 1:
        alone, every = time[0].column, time[1].scale if len(time) > 1 else 0
    return Plan(
        channel_routes(channel, of.channels) or [Route((ALL,), (ALL,), [], None)],
        frame_routes(time, of.frames) if every else [],
        ([path.column for path in channel], [path.column for path in time] if every else []),
        of.channels, alone, every,
    )  # fmt: skip


def rebuild_in_few_passes(*arguments: Any) -> Tensor:
    """Arguments as of `Rebuild`."""
    of = Rebuild(*arguments)
    y, gates, plan = of.y, of.gates, plan_of(of)
    out = new_maps(y, of.channels, of.frames)
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


def backward_in_few_passes(g: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradients of y, the gates and all Φ from that of the answer; the rest as of `Rebuild`."""
    of = Rebuild(*arguments)
    y, gates, plan, count = of.y, of.gates, plan_of(of), len(of.cheap_channel)
    dy, d_gates, *d_cheap = gradients_like(of)
    # By column of the gates; the first path of an axis has no Φ.
    d_phi: list[Tensor | None] = []
    for phis in (d_cheap[:count], d_cheap[count:]):
        d_phi += [None, *phis] if phis else []
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


def gradients_like(of: Rebuild) -> list[Tensor]:
    """Of y without numbers, all others zero; without gaps, whatever views of others they are."""
    others = of.gates, *of.cheap_channel, *of.cheap_time
    zeros = [torch.zeros_like(v, memory_format=torch.contiguous_format) for v in others]
    return [new_maps(of.y, of.y.shape[1], frames_of(of.y)), *zeros]


def batches(y: Tensor) -> list[slice]:
    """Samples to work on together: few enough for a CPU's cache."""
    samples = len(y)
    if y.device.type == "cpu" and y.numel():
        samples = max(1, CACHED_BYTES // (y[0].numel() * y.element_size()))
    return [slice(start, start + samples) for start in range(0, len(y), samples)]


REBUILD_BACKWARD = Operator(
    f"rebuild_backward(Tensor g, {ARGUMENTS}) -> Tensor[]",
    backward_in_few_passes,
    lambda g, *arguments: gradients_like(Rebuild(*arguments)),
    # What is rebuilt, backward through y and through Φ.
    lambda g, *arguments: 2 * flops_of_rebuild(*arguments),
)


def _backward(g: Tensor, *arguments: Any) -> tuple:
    dy, d_gates, *d_cheap = REBUILD_BACKWARD(g, *arguments)
    count = len(Rebuild(*arguments).cheap_channel)
    return dy, d_gates, d_cheap[:count], d_cheap[count:], None, None, None


REBUILD.quicken(_backward)
REBUILD.serve("CUDA", rebuild_in_few_passes)
