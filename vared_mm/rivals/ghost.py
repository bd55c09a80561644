"""The Ghost module: part of the maps by convolution, the others by a cheap one of each of those.

Han et al., "GhostNet: More Features from Cheap Operations", 2020; the static cousin of the cheap
operations on channels. C output channels, s the ratio, m = ceil(C/s).

There BatchNorm and ReLU follow the primary convolution, and then the cheap one too. Here a module
stands in the place of one convolution of a network that has a norm and an activation of its own
behind it: those follow both kinds of maps, each once. The cheap operation reads the maps before
them. So the trained norm of the plain network stays in its place, and the whole is as linear as the
convolution was, which is what lets it start from that one's weights.
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
from vared_mm.method.errors import DynamicError
from vared_mm.method.suitable import check_exchange, refuse
from vared_mm.method.surgery import exchange_each


@dataclass(frozen=True)
class GhostConfig(Targets):
    """How the convolutions of a model become Ghost modules.

    Args:
        ratio: s, how many maps come of one that is convolved.
        cheap_kernel: Side of the depthwise kernels, of one frame; odd.
    """

    option = "ghost"
    becomes = "a Ghost module"

    ratio: int = 2
    cheap_kernel: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.ratio) is not int or self.ratio < 2:
            raise ValueError(f"ratio is {self.ratio!r}; wanted a whole number from 2 on")
        if type(self.cheap_kernel) is not int or self.cheap_kernel < 1 or not self.cheap_kernel % 2:
            raise ValueError(
                f"cheap_kernel is {self.cheap_kernel!r}; wanted an odd number, like 1 or 3"
            )


class _NoWeightError(DynamicError, AttributeError):
    """To `hasattr` that there is none, to whoever asked for it a request that is refused."""


class _Ghost(nn.Module):
    """What GhostConv2d and GhostConv3d share: `primary` and `cheap`, two plain convolutions.

    A checkpoint of the plain network loads: `primary` takes its first filters, and `cheap` begins
    as the multiple of a primary map that comes nearest to the filter it stands for, in the least
    squares of their weights.

    Raises:
        UnsupportedConvError: The convolution has groups, or there is nothing to save.
    """

    kind: type[Any]

    def __init__(self, conv: _ConvNd, config: GhostConfig) -> None:
        super().__init__()
        check_ghost(conv, config)
        self.ghost, self.out_channels = config, conv.out_channels
        made, k = math.ceil(conv.out_channels / config.ratio), config.cheap_kernel
        has_bias = conv.bias is not None
        self.primary = self.kind(
            conv.in_channels, made, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            bias=has_bias, padding_mode=conv.padding_mode,
        )  # fmt: skip
        flat = (1,) * (conv.weight.ndim - 4)
        self.cheap = self.kind(
            made, made * (config.ratio - 1), (*flat, k, k), groups=made, bias=has_bias,
            padding=tuple(n // 2 for n in (*flat, k, k)),
        )  # fmt: skip
        self.to(conv.weight)
        self.load_state_dict(self.begin(conv.weight.detach(), conv.bias))
        self.train(conv.training)

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            # As MMAction2's backbones do, which write `pretrained` into each convolution by itself.
            raise _NoWeightError(
                f"a Ghost module has no {name} of its own to be read or written; a network with "
                "Ghost modules starts from a checkpoint of the static one by load_from, with "
                "pretrained=None"
            )
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.out_channels]

    def begin(self, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
        """The state of both convolutions from that of the plain one, (C, C_in, ...) and (C,)."""
        m, each = self.primary.out_channels, self.ghost.ratio - 1
        filters = weight.new_zeros(m * each, *weight.shape[1:])
        filters[: len(weight) - m] = weight[m:]
        # Half precision has neither the squares of small weights nor the least that is divided by.
        first = weight[:m].repeat_interleave(each, 0).flatten(1).double()
        scale = (filters.flatten(1) * first).sum(1) / first.square().sum(1).clamp(min=1e-12)
        scale = scale.to(weight.dtype)
        cheap = torch.zeros_like(self.cheap.weight)
        centre: tuple[Any, ...] = (..., *(n // 2 for n in cheap.shape[2:]))
        cheap[centre] = scale.unsqueeze(1)
        state = {"primary.weight": weight[:m], "cheap.weight": cheap}
        if bias is not None:
            bias = bias.detach()
            rest = bias.new_zeros(m * each)
            rest[: len(bias) - m] = bias[m:]
            rest -= scale * bias[:m].repeat_interleave(each)
            state |= {"primary.bias": bias[:m], "cheap.bias": rest}
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self._check_form(state_dict, prefix)
        if f"{prefix}weight" in state_dict:
            weight, bias = state_dict.pop(f"{prefix}weight"), state_dict.pop(f"{prefix}bias", None)
            state = self.begin(weight, bias)
            state_dict.update({f"{prefix}{name}": value for name, value in state.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _check_form(self, state: Mapping[str, Any], prefix: str) -> None:
        """mmengine turns torch's size mismatches into warnings and would go on with a part."""
        if gates := [key for key in state if key.startswith(f"{prefix}gate.")]:
            raise DynamicError(
                f"the checkpoint has {gates[0]}, so its network has gates; wanted that of the "
                "static network or of one with Ghost modules"
            )
        own = self.state_dict(prefix=prefix)
        wanted = {key: tuple(value.shape) for key, value in own.items()}
        wanted[f"{prefix}weight"] = (self.out_channels, *self.primary.weight.shape[1:])
        for key, shape in wanted.items():
            if key in state and tuple(state[key].shape) != shape:
                raise DynamicError(
                    f"the checkpoint's {key} is {tuple(state[key].shape)}, the model's is {shape}: "
                    f"it is of another network than {self.ghost}, or of other settings"
                )

    def extra_repr(self) -> str:
        return f"{self.primary.out_channels} of {self.out_channels} maps are convolved"


class GhostConv2d(_Ghost):
    """In the place of a 2-D convolution."""

    kind = nn.Conv2d


class GhostConv3d(_Ghost):
    """In the place of a 3-D convolution; the cheap kernels are of one frame, 1 x k x k."""

    kind = nn.Conv3d


def make_ghost(
    model: nn.Module, config: GhostConfig | Mapping[str, Any], except_for: Collection[str] = ()
) -> list[str]:
    """As `make_dynamic`; what a convolution's weight was is in those of its `primary` and `cheap`,
    which checkpoints of the plain model load into.
    """
    config = GhostConfig.make(config)
    return exchange_each(model, config, except_for, check_ghost, (GhostConv2d, GhostConv3d))


def check_ghost(conv: nn.Module, config: GhostConfig) -> None:
    """Raises `UnsupportedConvError` with the reason where `conv` cannot become a Ghost module."""
    check_exchange(conv, config)
    assert isinstance(conv, _ConvNd)
    if conv.groups != 1:
        refuse(conv, config, f"it has {conv.groups} groups; leave it out of the targets")
    if conv.out_channels < config.ratio:
        refuse(
            conv, config,
            f"its {conv.out_channels} output channels are fewer than the ratio, {config.ratio}; "
            "leave it out of the targets",
        )  # fmt: skip
    if (taps := conv.weight[0].numel()) <= config.cheap_kernel**2:
        refuse(
            conv, config,
            f"its filters have {taps} weights, no more than a cheap one of "
            f"{config.cheap_kernel**2}: nothing would be saved; leave it out of the targets",
        )  # fmt: skip


def ghosts(model: nn.Module) -> dict[str, _Ghost]:
    """The Ghost modules of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _Ghost)}
