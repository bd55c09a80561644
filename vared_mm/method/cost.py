"""What a dynamic model computes.

The unit everywhere is the MAC: one multiply and one add count as 1, a bias as 0. Shares are in
[0, 1]. N samples, C channels, T frames, H x W pixels; r share of channels, R temporal stride
factor, of a sample's largest open path.

- `dense`: C(f), the plain convolution at the size it ran.
- `paper`: C(f) · r/R, the cost formula of section 3.4.
- `full`: what evaluation runs: the convolution, the cheap operations of the open paths, the gate.

Where R does not divide the frames or 2 the channels, r and 1/R are the shares really computed.

Milliseconds can stand in the place of MACs, where a measured table tells them for each choice
(`latency_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vared_mm.method.errors import DynamicError
from vared_mm.method.layer import _Dynamic

# Milliseconds by share of channels (rows) and of frames (columns), the full ones first.
Grid = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ConvCost:
    """One pass through one dynamic convolution.

    `share`, `full` and `expected` are (N,): r/R, MACs, and the differentiable stand-in of r/R.
    The first two are float64, as float32 cannot count beyond 16 million.
    """

    name: str
    dense: int
    share: Tensor
    full: Tensor
    expected: Tensor


@dataclass
class CostRecord:
    """What `observe.record_cost` saw of a model's passes, in the order they ran.

    `seen` holds the arguments of `conv_cost`. Nothing is computed from them while the model
    runs: activation checkpointing would miss those operations when it runs a part again.
    """

    seen: list[tuple[str, _Dynamic, Tensor, tuple[int, ...]]] = field(default_factory=list)
    _costs: list[ConvCost] = field(default_factory=list)

    @property
    def passes(self) -> list[ConvCost]:
        """The cost of each pass through a dynamic convolution."""
        self._costs += [conv_cost(*one) for one in self.seen[len(self._costs) :]]
        return self._costs

    @property
    def names(self) -> list[str]:
        """The convolutions that ran, each once."""
        return list(dict.fromkeys(name for name, *_ in self.seen))

    def per_layer(self, samples: int) -> dict[str, Tensor]:
        """(samples, L) each: `dense`, `paper` and `full` MACs of every convolution in `names`.

        Rows of a pass belong to the samples in order, equally many to each (views, frames):
        they are summed, and so are repeated passes through one convolution.
        """
        if not self.passes:
            return {kind: torch.zeros(samples, 0) for kind in ("dense", "paper", "full")}
        columns: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for p in self.passes:
            kinds = torch.stack([p.dense * torch.ones_like(p.share), p.dense * p.share, p.full])
            columns[p.name].append(_rows(kinds, samples).sum(2))
        table = torch.stack([torch.stack(parts).sum(0) for parts in columns.values()], 2).cpu()
        return dict(zip(("dense", "paper", "full"), table, strict=True))

    def share(self, samples: int) -> Tensor:
        """(samples,): Σ_l C(f_l)/ΣC(f_k) · r_l/R_l, the argument of the efficiency loss.

        Its value is that of the paths really open; its gradient that of the expected ratio
        V_1·r_1 + (1 - V_1)·(V_2·r_2 + (1 - V_2)·...), which ends at the smallest ratio.
        """
        dense = [p.dense for p in self.passes]
        hard = weighted([p.share for p in self.passes], dense, samples)
        soft = weighted([p.expected for p in self.passes], dense, samples)
        return straight_through(hard, soft)

    def latency_share(self, samples: int, grids: Mapping[str, Grid]) -> Tensor:
        """(samples,): Σ_l w_l · ms_l[r_l, R_l] / ms_l[1, 1], w_l = ms_l[1, 1] / Σ_k ms_k[1, 1].

        Value and gradient come about as those of `share`. It exceeds 1 where choices take longer
        than computing all.

        Args:
            grids: What `latency_table.grids_for` gives for the model.
        """
        full = [grids[name][0][0] for name, *_ in self.seen]
        pairs = [latency_ratio(conv, gates, grids[name]) for name, conv, gates, _ in self.seen]
        hard = weighted([hard for hard, _ in pairs], full, samples)
        soft = weighted([soft for _, soft in pairs], full, samples)
        return straight_through(hard, soft)


def weighted(values: Sequence[Tensor], weights: Sequence[float], samples: int) -> Tensor:
    """(samples,): the mean of all passes' `values`, (N,) each, by the weights of a row of each."""
    if not values:
        raise DynamicError("no dynamic convolution ran, so there is no cost; is the model static?")
    pairs = list(zip(values, weights, strict=True))
    total = sum(weight * (len(value) / samples) for value, weight in pairs)
    return torch.stack([_rows(v, samples).sum(1) * (w / total) for v, w in pairs]).sum(0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, the gradient of `soft`."""
    return hard.to(soft.dtype) + (soft - soft.detach())


def _rows(values: Tensor, samples: int) -> Tensor:
    """(..., N) to (..., samples, N / samples)."""
    rows = values.shape[-1]
    if not samples or rows % samples:
        raise DynamicError(f"{rows} rows of cost cannot belong to {samples} samples equally")
    return values.unflatten(-1, (samples, -1))


def conv_cost(name: str, conv: _Dynamic, gates: Tensor, shape: tuple[int, ...]) -> ConvCost:
    """The cost of one pass from its gates (N, G) and its output's shape (N, C, [T,] H, W)."""
    channels, frames = shape[1], shape[2] if len(shape) == 5 else 1
    pixels = shape[-1] * shape[-2]
    kernel = (conv.in_channels // conv.groups) * math.prod(conv.kernel_size)
    dense = channels * frames * pixels * kernel

    space = conv.dynamic.search_space
    parts = dict(zip(conv.axes, gates.split(space, 1), strict=True))
    exact = gates.detach().double()
    counts = {
        "channel": exact.new_tensor(conv.widths),
        "time": exact.new_tensor([math.ceil(frames / r) for r in conv.strides]),
    }
    whole = {"channel": channels, "time": frames}
    # (N,) each: how many are computed, and what the expected ratio says of it.
    used = {axis: exact.new_full((shape[0],), n) for axis, n in whole.items()}
    expected = gates.new_ones(shape[0])
    for axis, part in parts.items():
        used[axis] = counts[axis][(part > 0).int().argmax(1)]
        expected = expected * expected_ratio(part, (counts[axis] / whole[axis]).to(gates.dtype))

    share = used["channel"] * used["time"] / (channels * frames)
    cheap = conv.dynamic.cheap_kernel**2 * pixels
    full = share * dense + conv.gate.macs()
    if "channel" in parts:
        rebuilt = ((parts["channel"] > 0) * (channels - counts["channel"])).sum(1)
        full = full + rebuilt * used["time"] * cheap
    if "time" in parts:
        rebuilt = ((parts["time"] > 0) * (frames - counts["time"])).sum(1)
        full = full + rebuilt * channels * cheap
    return ConvCost(name, dense, share, full, expected)


def latency_ratio(conv: _Dynamic, gates: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """(N,) each: the time of the largest open path's choice against that of the full one, in
    float64, and its differentiable stand-in.
    """
    parts = dict(zip(conv.axes, gates.split(conv.dynamic.search_space, 1), strict=True))
    # An axis that the convolution lacks has one choice, which is open.
    missing = gates.new_ones(len(gates), 1)
    channel, time = parts.get("channel", missing), parts.get("time", missing)
    ratios = torch.tensor(grid, dtype=torch.float64, device=gates.device) / grid[0][0]
    rows, columns = ((part > 0).int().argmax(1) for part in (channel, time))
    by_channel = [expected_ratio(time, row) for row in ratios.to(gates.dtype)]
    return ratios[rows, columns], expected_ratio(channel, torch.stack(by_channel, 1))


def expected_ratio(gates: Tensor, ratios: Tensor) -> Tensor:
    """V_1·r_1 + (1 - V_1)·(V_2·r_2 + (1 - V_2)·... r_S), gates (N, S), ratios (S,) or (N, S)."""
    *others, value = ratios.expand_as(gates).unbind(1)
    for gate, ratio in zip(gates.unbind(1)[-2::-1], others[::-1], strict=True):
        value = gate * ratio + (1 - gate) * value
    return value


def efficiency_loss(share: Tensor, correct: Tensor, target: float = 0.0) -> Tensor:
    """L_e = mean of ( μ0 · max(share - target, 0) )², equation 6 with a budget.

    Args:
        share: (N,), from `CostRecord.share` or `CostRecord.latency_share`.
        correct: (N,) μ0: whether the sample is predicted right. A wrong one may compute all it
            wants.
        target: The share below which nothing is asked for; 0 is the paper's loss.
    """
    return (correct.to(share.dtype) * (share - target).clamp(min=0)).square().mean()
