"""A dynamic convolution whose gate always answers the same, of plain modules alone.

    channels   Y_c = Σ_i V_c[i] · concat(Y'_i, Φc_i(Y'_i))
    time       Y = Σ_j V_t[j] · f_t(Y_c, R_j)

Symbols as in `vared_mm.method.equations`. Computed channel c < k stands in Y_c with the factor
a_c = Σ_{i: k_i > c} V_c[i]. It goes into the filters, with V_t of the densest path, and out of what
Φ makes of that channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.static_twin import conv_of, plain_conv
from vared_mm.method.equations import OpenPath, open_paths
from vared_mm.method.layer import _Dynamic
from vared_mm.method.prefix_conv import output_shape


class FixedConv(nn.Module):
    """Answers as `conv` does where its gate answers `row`, for inputs of any batch size.

    Args:
        row: (axes · S,), channel first, 0 for closed paths.
        frames: T of the output, 1 of images.
    """

    def __init__(self, conv: _Dynamic, row: Sequence[float], frames: int) -> None:
        super().__init__()
        pattern = tuple(v > 0 for v in row)
        self.computed, step = conv.extent(pattern)
        self.frames = frames
        channel, time = open_paths(pattern, conv.out_channels, *conv.cheap_operations())
        factors = torch.full((self.computed,), 0.0 if channel else 1.0, dtype=torch.float64)
        for path in channel:
            factors[: path.scale] += row[path.column]
        densest = row[time[0].column] if time else 1.0
        self.prefix = first_filters(conv, self.computed, step, densest * factors)
        self.inputs = self.prefix.in_channels
        self.rebuilt = nn.ModuleList(
            RebuiltChannels(p, row[p.column] / factors) for p in channel if p.cheap is not None
        )
        self.phases = nn.ModuleList(
            Phases(p, row[p.column] / densest, time[0].scale)
            for p in time
            if p.cheap is not None or len(time) > 1
        )

    def forward(self, x: Tensor) -> Tensor:
        y = first(self.prefix(first(x, self.inputs)), self.computed)
        made = y
        for rebuilt in self.rebuilt:
            others, own = rebuilt(y), int(rebuilt.scale)  # type: ignore[arg-type]
            if own < made.shape[1]:
                others = made[:, own:] + others
            made = torch.cat([made[:, :own], others], 1)
        if not self.phases:
            return made
        parts = [phases(made, self.frames) for phases in self.phases]
        return sum(parts[1:], parts[0])


def first_filters(conv: _Dynamic, width: int, step: int, factors: Tensor) -> _ConvNd:
    """The plain convolution of at least the first `width` filters, times `factors` (width,), that
    computes every `step`-th frame. Of grouped ones it takes whole groups."""
    filters = conv.out_channels // conv.groups
    groups = -(-width // filters)
    made = groups * filters if conv.groups > 1 else width
    stride = (conv.stride[0] * step, *conv.stride[1:])
    factors = torch.cat([factors, factors.new_zeros(made - width)])
    bias = None if conv.bias is None else scaled(conv.bias[:made], factors)
    settings = stride, symmetric(conv), conv.dilation, groups, conv.padding_mode
    return conv_of(scaled(conv.weight[:made], factors), bias, *settings)


def symmetric(conv: _ConvNd) -> tuple[int, ...]:
    """Its padding in numbers.

    Raises:
        ValueError: It pads one side more than the other.
    """
    if conv.padding == "valid":
        return (0,) * len(conv.kernel_size)
    if not isinstance(conv.padding, str):
        return tuple(conv.padding)
    around = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(n % 2 for n in around):
        raise ValueError(
            f"padding='same' of an even kernel, {conv.kernel_size}, pads one side more, which the "
            "snapshot's strided convolution cannot; leave this convolution out by dynamic.exclude"
        )
    return tuple(n // 2 for n in around)


def scaled(weight: Tensor, factors: Tensor) -> nn.Parameter:
    """(C, ...) by (C,), in double precision until it is rounded once."""
    product = weight.detach().double() * factors.view(-1, *[1] * (weight.ndim - 1))
    return nn.Parameter(product.to(weight.dtype), requires_grad=False)


class RebuiltChannels(nn.Module):
    """Channels k_i to C, from the computed ones. `weights` (k,): V over a of each computed one."""

    def __init__(self, path: OpenPath, weights: Tensor) -> None:
        super().__init__()
        assert path.cheap is not None
        self.scale = path.scale
        # Rebuilt channel c is made from computed channel c mod k_i.
        phis = path.cheap.split(path.scale)
        self.counts = [len(phi) for phi in phis]
        self.parts = nn.ModuleList(depthwise_conv(phi, weights[: len(phi)]) for phi in phis)

    def forward(self, y: Tensor) -> Tensor:
        made = [conv(first(y, count)) for count, conv in zip(self.counts, self.parts, strict=True)]
        return torch.cat(made, 1) if len(made) > 1 else made[0]


class Phases(nn.Module):
    """f_t(Y, R) times `ratio`, from frames of which every `densest`-th was computed."""

    def __init__(self, path: OpenPath, ratio: float, densest: int) -> None:
        super().__init__()
        self.every, self.ratio = path.scale // densest, float(ratio)
        phis = () if path.cheap is None else path.cheap
        self.others = nn.ModuleList(
            depthwise_conv(phi, torch.full((len(phi),), self.ratio)) for phi in phis
        )

    def forward(self, y: Tensor, frames: int) -> Tensor:
        base = y[:, :, :: self.every] if self.every > 1 else y
        own = base if self.ratio == 1 else base * self.ratio
        if not self.others:
            return own
        phases = torch.stack([own, *(conv(base) for conv in self.others)], 3)
        return first(phases.flatten(2, 3), frames, 2)


def first(x: Tensor, count: int, dim: int = 1) -> Tensor:
    """Its first channels, or frames; no operation where that is all of them."""
    return x if x.shape[dim] == count else x.narrow(dim, 0, count)


def depthwise_conv(phi: Tensor, weights: Tensor) -> _ConvNd:
    """Φ (C, 1, ...), times `weights` (C,), as a module."""
    padding = tuple(side // 2 for side in phi.shape[2:])
    return conv_of(scaled(phi, weights.double()), None, padding=padding, groups=len(phi))


def fixed(conv: _Dynamic, row: Sequence[float], size: Sequence[int]) -> nn.Module:
    """`conv` under the answer `row`, for inputs of `size` (N, C, [T,] H, W); a plain convolution
    where nothing is rebuilt."""
    frames = output_shape(conv, size)[2] if conv.weight.ndim == 5 else 1
    new = FixedConv(conv, row, frames)
    whole = not new.rebuilt and not new.phases
    return new.prefix if whole and new.inputs == conv.in_channels else new


def with_norm(conv: _ConvNd, scale: Tensor, shift: Tensor) -> _ConvNd:
    """A plain convolution that answers scale · conv(x) + shift; both (C,)."""
    new = plain_conv(conv)
    new.weight = scaled(conv.weight, scale)
    bias = shift if conv.bias is None else shift + scale * conv.bias.detach()
    new.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
    return new.eval()
