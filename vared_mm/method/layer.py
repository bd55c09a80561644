"""The dynamic convolution: per sample, how many channels and frames to compute (section 3.2).

It is the convolution it replaces, with the same parameters under the same names; `gate` and
`cheap` are all it adds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.cheap import CheapOperations
from vared_mm.method.config import DynamicConfig
from vared_mm.method.equations import (
    LAYOUTS,
    Rebuild,
    frames_of,
    rebuild_by_definition,
    strides,
    widths,
)
from vared_mm.method.errors import DynamicError
from vared_mm.method.fixed_gate import FixedGate, RandomBlockGate, RandomGate
from vared_mm.method.gate import BlockGate, FollowerGate, Gate, HandsOn
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.operators import is_exported, uncompiled
from vared_mm.method.prefix_conv import is_pointwise, like_layout, output_shape, prefix_conv
from vared_mm.method.rebuild import rebuild
from vared_mm.method.suitable import check_conv, check_settings, dynamic_axes
from vared_mm.method.told_settings import keep_settings

Pattern = tuple[bool, ...]


class _Dynamic(GatedConv):
    """What the 2-D and the 3-D dynamic convolution share. Mixed into `nn.Conv2d`, `nn.Conv3d`."""

    gate: Gate | FollowerGate | FixedGate
    cheap: CheapOperations
    dynamic: DynamicConfig
    axes: tuple[str, ...]
    # Whether it turns its maps so in training, where the layout of its weights does not tell.
    channels_last = False

    def __init__(
        self, *args: Any, dynamic: DynamicConfig | Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._become_dynamic(DynamicConfig.make(dynamic))

    @classmethod
    def from_conv(
        cls,
        conv: _ConvNd,
        config: DynamicConfig | Mapping[str, Any],
        leader: _Dynamic | None = None,
    ) -> _Dynamic:
        """The dynamic form of `conv`, sharing its parameters.

        Args:
            conv: A plain `nn.Conv2d` for `VaRedConv2d`, `nn.Conv3d` for `VaRedConv3d`.
            config: Its settings; `targets` plays no part here.
            leader: The first convolution of its block, whose gate it follows.

        Raises:
            UnsupportedConvError: The dynamic form would not compute what `conv` does.
        """
        config = DynamicConfig.make(config)
        check_conv(conv, config)
        new = cls._sharing(conv)
        new._become_dynamic(config, leader)
        return new.train(conv.training)

    def _become_dynamic(self, config: DynamicConfig, leader: _Dynamic | None = None) -> None:
        check_settings(self, config)
        self.dynamic, self.axes = config, dynamic_axes(self, config)
        n = len(self.axes)
        if config.gate == "fixed":
            self.gate = FixedGate(n, config).to(self.weight.device)
        elif leader is not None:
            assert isinstance(leader.gate, HandsOn)
            self.gate = FollowerGate(leader.gate)
        elif config.gate == "random":
            draws = RandomBlockGate if config.share == "block" else RandomGate
            self.gate = draws(n, config).to(self.weight.device)
        else:
            kind = BlockGate if config.share == "block" else Gate
            self.gate = kind(self.in_channels, n, config).to(self.weight)
        self.cheap = CheapOperations(self, config, self.axes)
        k = widths(self.out_channels, config.search_space)
        self.widths = k if "channel" in self.axes else k[:1]
        r = strides(config.search_space)
        self.strides = r if "time" in self.axes else r[:1]
        keep_settings(self)

    def told_settings(self) -> dict[str, Any]:
        config = self.dynamic
        return {"normalised": config.normalised, "floor": config.floor, "axes": tuple(self.axes)}

    @property
    def config(self) -> DynamicConfig:
        return self.dynamic

    def _forward(self, x: Tensor) -> Tensor:
        if not x.shape[0]:
            return self.plain(x)
        gates = self.gate(x)
        self.check_answer(gates, x)
        if self.training:
            return self._forward_all(x, gates)
        if is_exported():
            return self._forward_masked(x, gates)
        # What the host chooses is no part of a graph.
        return uncompiled(self._forward_open, x, gates)

    def check_answer(self, gates: Tensor, x: Tensor) -> None:
        """Kernels read by the gates' shape, and a hook or another module may have answered."""
        wanted = (x.shape[0], len(self.axes) * self.dynamic.search_space)
        if gates.shape != wanted:
            raise DynamicError(
                f"the gate of a dynamic convolution answered {tuple(gates.shape)} numbers; wanted "
                f"{wanted}, {wanted[1]} for each of {wanted[0]} samples. Does a hook answer in its "
                "place, or a plan of another batch?"
            )

    def _forward_all(self, x: Tensor, gates: Tensor) -> Tensor:
        """Training: every path, taken from one full convolution."""
        y = self._full(x)
        return rebuild(self.rebuild_of(y, gates, None, frames_of(y)))

    def _forward_masked(self, x: Tensor, gates: Tensor) -> Tensor:
        """The same where nothing can be chosen, as in an export, in torch's operations alone: what
        is closed is computed too, and its gate of 0 leaves it out.
        """
        y = self.plain(x)
        return rebuild_by_definition(*self.rebuild_of(y, gates, None, frames_of(y)))

    def _full(self, x: Tensor) -> Tensor:
        """The plain convolution's output, channels last if `x` is, or as it was told."""
        on_cpu, pointwise = x.device.type == "cpu", is_pointwise(self)
        if self.channels_last and on_cpu and (pointwise or self.groups > 1):
            # Such weights lie alike either way. In planes torch takes two to four times as long for
            # gradients of depthwise convolutions, and the kernel of Φ's would turn them twice.
            x = x.contiguous(memory_format=LAYOUTS[x.ndim])
        if on_cpu and x.stride(1) == 1 and pointwise:
            # torch copies such maps into another layout, and what it makes of them would have to
            # be copied back, in both directions: longer than the product itself takes.
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        return like_layout(self.plain(x), x)

    def decision(self, x: Tensor, answer: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return answer, output_shape(self, x.shape)

    def _forward_open(self, x: Tensor, gates: Tensor) -> Tensor:
        """Evaluation: what the open paths need, once for all samples that chose alike."""
        try:
            rows = gates.tolist()
        except RuntimeError:
            # torch keeps the numbers to itself, as under torch.func.vmap, or there are none.
            return self._forward_masked(x, gates)
        groups = group_by_pattern(rows)
        if len(groups) == 1:
            return self._run(x, gates, next(iter(groups)))
        # Slices and cat keep the memory layout, which indexing would not.
        results: dict[int, Tensor] = {}
        for pattern, samples in groups.items():
            own = [torch.cat([t[i : i + 1] for i in samples]) for t in (x, gates)]
            y = self._run(own[0], own[1], pattern)
            results.update(zip(samples, y.split(1), strict=True))
        return torch.cat([results[i] for i in range(len(x))])

    def _run(self, x: Tensor, gates: Tensor, pattern: Pattern) -> Tensor:
        k, r = self.extent(pattern)
        # On CPU a convolution of one sample may answer in another layout than one of many.
        y = like_layout(prefix_conv(self, x, k, r), x)
        if (k, r) == (self.out_channels, 1) and sum(pattern) == len(self.axes):
            # Nothing is rebuilt.
            first, *others = (gates[:, i] for i, is_open in enumerate(pattern) if is_open)
            factor = math.prod(others, start=first).to(y.dtype).view(-1, *[1] * (y.ndim - 1))
            return y * factor if torch.is_grad_enabled() else y.mul_(factor)
        frames = output_shape(self, x.shape)[2] if y.ndim == 5 else 1
        return rebuild(self.rebuild_of(y, gates, pattern, frames))

    def rebuild_of(self, y: Tensor, gates: Tensor, pattern: Pattern | None, frames: int) -> Rebuild:
        """To `frames` frames from what `pattern` computed; None stands for all paths."""
        opened = [True] * gates.shape[1] if pattern is None else list(pattern)
        return Rebuild(y, gates, *self.cheap_operations(), opened, self.out_channels, frames)

    def cheap_operations(self) -> tuple[list[Tensor], list[Tensor]]:
        """Φ of the channel axis and of the time axis."""
        # By name, and not as parameters, which `DataParallel`, FSDP and pruning put elsewhere.
        # The compiler of torch 2.10 fails to unpack a ParameterList by a star.
        return list(self.cheap.channel), list(self.cheap.time)

    def extent(self, pattern: Pattern) -> tuple[int, int]:
        """The largest open share: (channels computed, temporal stride factor R)."""
        s = self.dynamic.search_space
        parts = {axis: pattern[i * s : (i + 1) * s] for i, axis in enumerate(self.axes)}
        for axis, choices in parts.items():
            if not any(choices):
                raise DynamicError(
                    f"the gate of a dynamic convolution opens no path of its {axis} axis, which "
                    "would leave nothing to compute; does a hook answer in its place?"
                )
        k = self.widths[parts["channel"].index(True) if "channel" in parts else 0]
        r = self.strides[parts["time"].index(True) if "time" in parts else 0]
        return k, r

    def extra_repr(self) -> str:
        axes = "+".join(self.axes)
        return f"{super().extra_repr()}, {axes}, search_space={self.dynamic.search_space}"


class VaRedConv2d(_Dynamic, nn.Conv2d):
    """A 2-D convolution that decides per sample how many channels to compute.

    It takes (N, C, H, W) and the arguments of `nn.Conv2d`, whose parameters and names it has.

    Args:
        dynamic: Settings, as of `DynamicConfig`, by keyword.
    """


class VaRedConv3d(_Dynamic, nn.Conv3d):
    """A 3-D convolution that decides per sample how many channels and frames to compute.

    It takes (N, C, T, H, W) and the arguments of `nn.Conv3d`, whose parameters and names it has.

    Args:
        dynamic: Settings, as of `DynamicConfig`, by keyword.
    """


def group_by_pattern(gates: Sequence[Sequence[float]]) -> dict[Pattern, Sequence[int]]:
    """Which samples opened the same paths.

    Raises:
        DynamicError: A gate is NaN, as the input or a parameter was.
    """
    groups: dict[Pattern, list[int]] = defaultdict(list)
    for sample, row in enumerate(gates):
        if math.isnan(sum(row)):
            raise DynamicError(
                f"the gate of a dynamic convolution is NaN for sample {sample} of {len(gates)}: "
                "its input or its parameters hold NaN or infinite numbers"
            )
        groups[tuple([v > 0 for v in row])].append(sample)
    return dict(groups)
