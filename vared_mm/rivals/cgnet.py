"""CGNet: a convolution of the first input channels decides where the others count.

Hua et al., "Channel Gating Neural Networks", 2019; a rival of Table 7. N samples, C channels,
T frames, H x W pixels; p partitions of the input channels.

    Yp = the convolution over the first C_in/p input channels,   Y that over all of them
    d = 1[ sigmoid(alpha (BN(Yp) - Delta)) > 0.5 ],   Delta of each output channel, BN not affine
    out = d Y + (1 - d) Yp

By formula it costs 1/p + (1 - 1/p) mean(d) of the plain convolution. That is no time saved: both
parts run in full.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.config import Targets
from vared_mm.method.equations import in_planes
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.suitable import check_exchange, refuse
from vared_mm.method.surgery import exchange_each
from vared_mm.method.told_settings import keep_settings


@dataclass(frozen=True)
class CGNetConfig(Targets):
    """How the convolutions of a model become those of CGNet.

    Args:
        partitions: p. Where it does not divide the input channels, the first part has fewer.
        threshold: T, which Delta starts at and `ThresholdLossHook` pulls it to. As BN(Yp) is about
            N(0, 1), a part Q(T) of all positions is open, Q the normal distribution's upper tail.
        slope: alpha, of the gradient alone: d is 1 where BN(Yp) > Delta, whatever it is.
    """

    option = "cgnet"
    becomes = "one of CGNet"

    partitions: int = 4
    threshold: float = 1.0
    slope: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.partitions) is not int or self.partitions < 2:
            raise ValueError(
                f"partitions is {self.partitions!r}; wanted a whole number from 2 on, of parts of "
                "the input channels"
            )
        for name in ("threshold", "slope"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}; wanted a finite number")
        if self.slope <= 0:
            raise ValueError(f"slope is {self.slope!r}; wanted more than 0")


class ChannelGate(nn.Module):
    """d of Yp (N, C, [T,] H, W): 0 or 1 at every position; the sigmoid's gradient."""

    def __init__(self, channels: int, dimensions: int, config: CGNetConfig) -> None:
        super().__init__()
        self.slope, self.start = config.slope, float(config.threshold)
        kind = nn.BatchNorm3d if dimensions == 5 else nn.BatchNorm2d
        self.norm = kind(channels, affine=False)
        self.threshold = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """To the start, as torch's own layers do it; the norm has a function of its own."""
        nn.init.constant_(self.threshold, self.start)

    def forward(self, y: Tensor) -> Tensor:
        above = self.norm(y) - self.threshold.view(-1, *[1] * (y.ndim - 2))
        opened = (above > 0).to(y.dtype)
        if not torch.is_grad_enabled():
            return opened
        soft = torch.sigmoid(self.slope * above).to(y.dtype)
        return opened + (soft - soft.detach())


class _ChannelGated(GatedConv):
    """What CGConv2d and CGConv3d share."""

    gate: ChannelGate
    cgnet: CGNetConfig

    def __init__(
        self, *args: Any, cgnet: CGNetConfig | Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._become_gated(CGNetConfig.make(cgnet))

    @classmethod
    def from_conv(cls, conv: _ConvNd, config: CGNetConfig) -> _ChannelGated:
        """The form of `conv` that CGNet gives it, sharing its parameters.

        Raises:
            UnsupportedConvError: It has groups, or fewer input channels than there are partitions.
        """
        check_channel_gated(conv, config)
        new = cls._sharing(conv)
        new._become_gated(config)
        return new.train(conv.training)

    def _become_gated(self, config: CGNetConfig) -> None:
        check_inputs(self, config)
        self.cgnet, self.base = config, self.in_channels // config.partitions
        gate = ChannelGate(self.out_channels, self.weight.ndim, config)
        self.gate = gate.to(self.weight)
        keep_settings(self)

    def told_settings(self) -> dict[str, Any]:
        return {"partitions": self.cgnet.partitions}

    @property
    def config(self) -> CGNetConfig:
        return self.cgnet

    def _forward(self, x: Tensor) -> Tensor:
        y, rest = self.parts(x)
        return y + self.gate(y) * rest

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Yp and Y - Yp: convolutions of the first input channels and of the others."""
        n, all_ = self.base, self.in_channels
        convolve = super(GatedConv, self)._conv_forward
        return (
            convolve(channels_of(x, 0, n), channels_of(self.weight, 0, n), self.bias),
            convolve(channels_of(x, n, all_), channels_of(self.weight, n, all_), None),
        )

    def decision(self, x: Tensor, answer: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(N, 1) the share of the plain convolution's MACs that counts, by formula."""
        with torch.no_grad():
            opened = answer.flatten(1).mean(1, keepdim=True, dtype=torch.float64)
        least = self.base / self.in_channels
        return least + (1 - least) * opened, tuple(answer.shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, first {self.base} of {self.in_channels} channels decide"


class CGConv2d(_ChannelGated, nn.Conv2d):
    """A 2-D convolution that decides for every position and channel what it reads."""


class CGConv3d(_ChannelGated, nn.Conv3d):
    """A 3-D convolution that decides for every position and channel what it reads."""


def make_cgnet(
    model: nn.Module, config: CGNetConfig | Mapping[str, Any], except_for: Collection[str] = ()
) -> list[str]:
    """As `make_dynamic`: thresholds and BatchNorm statistics are all that a checkpoint of the plain
    model lacks.
    """
    config = CGNetConfig.make(config)
    make = CGConv2d.from_conv, CGConv3d.from_conv
    return exchange_each(model, config, except_for, check_channel_gated, make)


def check_channel_gated(conv: nn.Module, config: CGNetConfig) -> None:
    """Raises `UnsupportedConvError` with the reason where `conv` cannot become one of CGNet."""
    check_exchange(conv, config)
    assert isinstance(conv, _ConvNd)
    check_inputs(conv, config)


def check_inputs(conv: _ConvNd, config: CGNetConfig) -> None:
    if conv.groups != 1:
        refuse(
            conv, config,
            f"it has {conv.groups} groups, and its channels are gated apart already; leave it out "
            "of the targets",
        )  # fmt: skip
    if conv.in_channels < config.partitions:
        refuse(
            conv, config,
            f"its {conv.in_channels} input channels cannot be parted in {config.partitions}; leave "
            "it out of the targets, as a stem is"
            + (f", or give partitions={conv.in_channels} or less" if conv.in_channels > 1 else ""),
        )  # fmt: skip


def channels_of(x: Tensor, first: int, end: int) -> Tensor:
    """Those channels of maps, or of a weight, as convolutions can read them."""
    part = x[:, first:end]
    return in_planes(part) if end - first == 1 else part


def channel_gated(model: nn.Module) -> dict[str, _ChannelGated]:
    """Those convolutions of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _ChannelGated)}
