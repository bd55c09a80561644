"""What a dynamic model computes.

The unit everywhere is the MAC: one multiply and one add count as 1, a bias as 0. Shares are in
[0, 1]. N samples, C channels, T frames, H x W pixels; r share of channels, R temporal stride
factor, of a sample's largest open path.

- `dense`: C(f), the plain convolution at the size it ran.
- `paper`: C(f) · r/R, the cost formula of section 3.4.
- `full`: what evaluation runs: the convolution, the cheap operations of the open paths, the gate.

Where R does not divide the frames or 2 the channels, r and 1/R are the shares really computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vared_mm.method.errors import DynamicError
from vared_mm.method.layer import _Dynamic


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
        if not self.passes:
            raise DynamicError(
                "no dynamic convolution ran, so there is no cost; is the model static?"
            )
        soft = self._weighted([p.expected for p in self.passes], samples)
        hard = self._weighted([p.share for p in self.passes], samples)
        return hard.to(soft.dtype) + (soft - soft.detach())

    def _weighted(self, values: Sequence[Tensor], samples: int) -> Tensor:
        dense = sum(p.dense * (len(p.share) / samples) for p in self.passes)
        terms = [
            _rows(value, samples).sum(1) * (p.dense / dense)
            for p, value in zip(self.passes, values, strict=True)
        ]
        return torch.stack(terms).sum(0)


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


def expected_ratio(gates: Tensor, ratios: Tensor) -> Tensor:
    """V_1·r_1 + (1 - V_1)·(V_2·r_2 + (1 - V_2)·... r_S), of gates (N, S) and ratios (S,)."""
    value = ratios[-1].expand(len(gates))
    for gate, ratio in zip(gates.unbind(1)[-2::-1], ratios.flip(0)[1:], strict=True):
        value = gate * ratio + (1 - gate) * value
    return value


def efficiency_loss(share: Tensor, correct: Tensor, target: float = 0.0) -> Tensor:
    """L_e = mean of ( μ0 · max(share - target, 0) )², equation 6 with a budget.

    Args:
        share: (N,), from `CostRecord.share`.
        correct: (N,) μ0: whether the sample is predicted right. A wrong one may compute all it
            wants.
        target: The share below which nothing is asked for; 0 is the paper's loss.
    """
    return (correct.to(share.dtype) * (share - target).clamp(min=0)).square().mean()
