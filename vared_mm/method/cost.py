"""What a dynamic model computes.

The unit everywhere is the MAC: one multiply and one add count as 1, a bias as 0. Shares are in
[0, 1]. N samples, C channels, T frames, H x W pixels; r share of channels, R temporal stride
factor, of a sample's largest open path.

- `dense`: C(f), the plain convolution at the size it ran.
- `paper`: C(f) · r/R, the cost formula of section 3.4 (equation 5).
- `full`: what evaluation runs: the convolution, the cheap operations of the open paths, the gate.

Of a rival that computes all whatever its gates decide, `paper` is its own formula and `full` is
`dense`.

Where R does not divide the frames or 2 the channels, r and 1/R are the shares really computed.

Milliseconds can stand in the place of MACs, where a measured table tells them for each choice
(`latency_table`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.errors import DynamicError
from vared_mm.method.gate import FollowerGate
from vared_mm.method.layer import _Dynamic

# Milliseconds by share of channels (rows) and of frames (columns), the full ones first.
Grid = tuple[tuple[float, ...], ...]
Item = TypeVar("Item")


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


class Pass(NamedTuple):
    """One pass: its gates (N, G) and its output's shape (N, C, [T,] H, W)."""

    name: str
    conv: Any  # a GatedConv, mostly a dynamic one
    gates: Tensor
    shape: tuple[int, ...]


@dataclass
class CostRecord:
    """What `observe.record_cost` saw of a model's passes, in the order they ran.

    Nothing is computed from them while the model
    runs: activation checkpointing would miss those operations when it runs a part again.
    """

    seen: list[Pass] = field(default_factory=list)
    _costs: list[ConvCost] = field(default_factory=list)

    @property
    def passes(self) -> list[ConvCost]:
        """The cost of each pass through a dynamic convolution."""
        self._costs += conv_costs(self.seen[len(self._costs) :])
        return self._costs

    @property
    def names(self) -> list[str]:
        """The convolutions that ran, each once."""
        return list(dict.fromkeys(name for name, *_ in self.seen))

    @property
    def frames(self) -> list[int]:
        """T of what each of `names` answers, 1 of images."""
        shapes = {name: shape for name, _, _, shape in self.seen if len(shape) == 5}
        return [shapes[name][2] if name in shapes else 1 for name in self.names]

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

    def decisions(self, samples: int) -> dict[str, Tensor]:
        """(samples, P, rows, G) of each gate, by the convolution that asks it: what it answered for
        the `rows` (views, frames) of every sample in its P passes. Those of unlike size are as one.
        """
        found: dict[str, list[Tensor]] = {}
        for name, conv, gates, _ in self.seen:
            if isinstance(conv, _Dynamic) and not isinstance(conv.gate, FollowerGate):
                rows = gates.detach().float().unflatten(0, (samples, -1))
                found.setdefault(name, []).append(rows)
        alike = {name: len({rows.shape for rows in parts}) == 1 for name, parts in found.items()}
        return {
            name: torch.stack(parts, 1) if alike[name] else torch.cat(parts, 1).unsqueeze(1)
            for name, parts in found.items()
        }

    def share(self, samples: int) -> Tensor:
        """(samples,): Σ_l C(f_l)/ΣC(f_k) · r_l/R_l, the argument of the efficiency loss.

        Its value is that of the paths really open; its gradient that of the expected ratio
        V_1·r_1 + (1 - V_1)·(V_2·r_2 + (1 - V_2)·...), which ends at the smallest ratio.
        """
        dense = [p.dense for p in self.passes]
        hard = weighted([p.share for p in self.passes], dense, samples)
        soft = weighted([p.expected for p in self.passes], dense, samples)
        return straight_through(hard, soft)

    def split(self, sizes: Sequence[int]) -> list[tuple[CostRecord, int]]:
        """For batches of `sizes` samples that went through the model in one of its passes: a record
        of each where they ran one after the other, else that of all; with the samples it is of.
        """
        passes: dict[str, list[Pass]] = {}
        for one in self.seen:
            passes.setdefault(one.name, []).append(one)
        if len(sizes) == 1 or any(len(of_conv) % len(sizes) for of_conv in passes.values()):
            return [(self, sum(sizes))]
        records = [(CostRecord(), size) for size in sizes]
        for of_conv in passes.values():
            each = len(of_conv) // len(sizes)
            for i, one in enumerate(of_conv):
                records[i // each][0].seen.append(one)
        return records

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
    parts = []
    for same in grouped(pairs, lambda pair: len(pair[0])):
        table = torch.stack([value for value, _ in same], 1)
        # No matrix product, which autocast would round to half precision.
        parts.append((table * table.new_tensor([weight / total for _, weight in same])).sum(1))
    return torch.stack([_rows(part, samples).sum(1) for part in parts]).sum(0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, the gradient of `soft`; in float32 at least."""
    soft = soft.to(torch.promote_types(soft.dtype, torch.float32))
    return hard.to(soft.dtype) + (soft - soft.detach())


def _rows(values: Tensor, samples: int) -> Tensor:
    """(..., N) to (..., samples, N / samples)."""
    rows = values.shape[-1]
    if not samples or rows % samples:
        raise DynamicError(
            f"{rows} rows of cost cannot belong to {samples} samples equally: a pass of the "
            "network was of some of them alone, as where a teacher and its student take a batch "
            "each or samples run one by one, or of boxes that were found in them"
        )
    return values.unflatten(-1, (samples, -1))


def conv_costs(passes: Sequence[Pass]) -> list[ConvCost]:
    """The cost of each, in their order.

    Those with gates alike are computed at once: so many small operations for each of dozens of
    layers would take longer than the layers of a small network.
    """
    numbered = list(enumerate(passes))
    costs = {i: by_formula(one) for i, one in numbered if not isinstance(one.conv, _Dynamic)}

    def likeness(numbered: tuple[int, Pass]) -> tuple:
        _, (_, conv, gates, _) = numbered
        return conv.axes, conv.dynamic.search_space, gates.shape, gates.dtype, gates.device

    for same in grouped([one for one in numbered if one[0] not in costs], likeness):
        places, alike = zip(*same, strict=True)
        costs.update(zip(places, costs_of_alike(alike), strict=True))
    return [costs[i] for i in range(len(passes))]


def by_formula(one: Pass) -> ConvCost:
    """Of a rival, which computes all whatever its gate decides: the share is what it could be."""
    dense, share = dense_macs(one.conv, one.shape), one.gates.detach().double().squeeze(1)
    return ConvCost(one.name, dense, share, torch.full_like(share, dense), share)


def costs_of_alike(passes: Sequence[Pass]) -> list[ConvCost]:
    """Of L passes with the same axes, search space and number of samples."""
    convs = [one.conv for one in passes]
    gates = torch.stack([one.gates for one in passes])
    exact = gates.detach().double()
    dense = [dense_macs(one.conv, one.shape) for one in passes]

    def column(numbers: Sequence[Any]) -> Tensor:
        return exact.new_tensor(numbers).unsqueeze(1)

    channels = [one.shape[1] for one in passes]
    frames = [one.shape[2] if len(one.shape) == 5 else 1 for one in passes]
    # (L, 1) all of them, and (L, 1, S) how many each path computes.
    whole = {"channel": column(channels), "time": column(frames)}
    steps = [[math.ceil(n / r) for r in c.strides] for n, c in zip(frames, convs, strict=True)]
    counts = {"channel": column([conv.widths for conv in convs]), "time": column(steps)}
    # (L, N): how many are computed, and what the expected ratio says of it.
    used, expected = dict(whole), torch.ones_like(gates[..., 0])
    parts = dict(zip(convs[0].axes, gates.split(convs[0].dynamic.search_space, 2), strict=True))
    for axis, part in parts.items():
        largest = (part > 0).int().argmax(2, keepdim=True)
        used[axis] = counts[axis].expand_as(part).gather(2, largest).squeeze(2)
        ratios = (counts[axis] / whole[axis].unsqueeze(2)).to(gates.dtype)
        expected = expected * expected_ratio(part, ratios)

    share = used["channel"] * used["time"] / (whole["channel"] * whole["time"])
    full = share * column(dense) + column([conv.gate.macs() for conv in convs])
    pixels = [one.shape[-1] * one.shape[-2] for one in passes]
    cheap = column([n * c.dynamic.cheap_kernel**2 for n, c in zip(pixels, convs, strict=True)])
    for axis, others in (("channel", used["time"]), ("time", whole["channel"])):
        if axis in parts:
            missing = whole[axis].unsqueeze(2) - counts[axis]
            full = full + ((parts[axis] > 0) * missing).sum(2) * others * cheap
    names = [one.name for one in passes]
    return list(map(ConvCost, names, dense, share, full, expected))


def dense_macs(conv: _ConvNd, shape: tuple[int, ...]) -> int:
    """C(f)."""
    kernel = (conv.in_channels // conv.groups) * math.prod(conv.kernel_size)
    return math.prod(shape[1:]) * kernel


def grouped(items: Sequence[Item], key: Callable[[Item], Hashable]) -> Iterable[list[Item]]:
    """Those of equal key together."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups.values()


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
    """V_1·r_1 + (1 - V_1)·(V_2·r_2 + (1 - V_2)·... r_S), gates (..., S), ratios alike."""
    *others, value = ratios.expand_as(gates).unbind(-1)
    for gate, ratio in zip(gates.unbind(-1)[-2::-1], others[::-1], strict=True):
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
