"""What stands in for the `forward` of a dynamic convolution on a GPU.

The host never learns what a sample chose: it starts the same kernels for every batch, so there is
nothing to group and nothing to wait for, and a network of them can be captured as a CUDA graph. It
pays with programs that start for nothing, and with room for maps that nobody computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.fused_conv import refuse_other_sizes
from vared_mm.fast.packed_conv import as_channels_last, empty_maps, output_size, residual
from vared_mm.fast.tf32 import rounds_to_tf32
from vared_mm.kernels.convolutions import Geometry, over_time
from vared_mm.method.layer import Pattern, _Dynamic

# Input channels up to which the taps along W are read at once.
FEW = 15
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


@cache
def kernels() -> ModuleType | None:
    """The Triton kernels; None where Triton is missing."""
    try:
        from vared_mm.kernels import gpu
    except ImportError:
        return None
    return gpu


def is_predicated(weight: Tensor) -> bool:
    """Whether the kernels serve a layer of this weight, where it is and in its precision."""
    return weight.is_cuda and weight.dtype in PRECISIONS and kernels() is not None


class PredicatedConv:
    """activate(scale · Y + bias + other) of a dynamic convolution and its epilogue.

    Products of float32 are rounded to TF32 where torch's own convolutions are. Convolutions with
    groups that are neither one nor depthwise, and those with uncommon padding, are computed whole
    by torch before the rebuilding: they follow their gates, but save nothing.
    """

    def __init__(self, conv: _Dynamic, epilogue: Epilogue, maps: torch.dtype | None = None) -> None:
        self.conv, self.epilogue = conv, epilogue
        self.weight = packed_weight(conv) if is_skippable(conv) else None
        self.channel_phi, self.time_phi = channel_taps(conv), time_taps(conv)
        self.always = epilogue.scale.new_ones(1)
        self._tuned: set[tuple] = set()

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        conv, x = self.conv, as_channels_last(x)
        if not len(x):
            return as_channels_last(conv.plain(x))
        gates = refuse_other_sizes(conv.gate(x), conv, x)
        return self.run(x, gates, None if other is None else residual(other, conv, x))

    def branch(self, pattern: Pattern) -> Callable[..., Tensor]:
        """The way to run `pattern`, which is the way to run all of them."""
        return self.run

    def run(self, x: Tensor, gates: Tensor, other: Tensor | None) -> Tensor:
        """From the gates on; the arguments as those of `Branch`."""
        triton, conv = kernels(), self.conv
        assert triton is not None
        if x.is_cuda and (x.shape, x.dtype) not in self._tuned:
            # Block sizes are tried at the first call: let all of the work be there.
            self._tuned.add((x.shape, x.dtype))
            self.run(x, torch.full_like(gates, 0.5), other)
        y = self._room_or_maps(x)
        out = empty_maps(x, tuple(y.shape))
        both = len(conv.widths) > 1 and len(conv.strides) > 1
        z = empty_maps(x, tuple(y.shape)) if both else y
        size = over_time(y.shape[2:])
        told = {**self._told(gates, other), "out": out, "N": len(y), **named(size, "")}
        frames, image = size[0], size[1] * size[2]
        with torch.cuda.device_of(x):
            if self.weight is not None:
                grid = triton.programs(1, frames * image)
                triton.compute[grid](x=x, y=y, **told, **self._convolution(x))
            if len(conv.widths) > 1 or self.weight is None:
                triton.rebuild_channels[triton.programs(frames, image)](
                    y=y, z=z, phi=self.channel_phi, SIDE=conv.dynamic.cheap_kernel,
                    FINISHED=self.weight is not None, **told,
                )  # fmt: skip
            if len(conv.strides) > 1:
                triton.rebuild_frames[triton.programs(frames, image)](
                    y=y, z=z, phi=self.time_phi, SIDE=conv.dynamic.cheap_kernel, **told
                )
        return out

    def _room_or_maps(self, x: Tensor) -> Tensor:
        """What `compute` will write into, or where it cannot serve, all of it by torch."""
        conv = self.conv
        if self.weight is None:
            return as_channels_last(conv.plain(x))
        return empty_maps(x, (len(x), conv.out_channels, *output_size(conv, x.shape[2:])))

    def _told(self, gates: Tensor, other: Tensor | None) -> dict[str, Any]:
        """What all kernels are told."""
        conv, (scale, bias) = self.conv, (self.epilogue.scale, self.epilogue.bias)
        space, pitch = conv.dynamic.search_space, gates.shape[1]
        columns = {axis: (gates[:, i * space :], pitch) for i, axis in enumerate(conv.axes)}
        return {
            "channel_gates": columns.get("channel", (self.always, 0)),
            "time_gates": columns.get("time", (self.always, 0)),
            "epilogue": (scale, bias, scale if other is None else other),
            "C": conv.out_channels,
            "CHANNEL_PATHS": len(conv.widths),
            "TIME_PATHS": len(conv.strides),
            "OTHER": other is not None,
            "RELU": self.epilogue.relu,
        }

    def _convolution(self, x: Tensor) -> dict[str, Any]:
        """What `compute` alone is told."""
        conv, moves, along = self.conv, Geometry.of(self.conv), taps_at_once(self.conv)
        *others, columns = over_time(conv.kernel_size)
        return {
            "weight": self.weight,
            "bias": self.weight if conv.bias is None else conv.bias.detach(),
            **named(over_time(x.shape[2:]), "_IN"),
            "C_IN": conv.in_channels,
            "KERNEL": (*others, columns // along),
            "STRIDE": over_time(moves.stride),
            "PADDING": over_time(moves.padding, 0),
            "DILATION": over_time(moves.dilation),
            "ALONG": along,
            "DEPTHWISE": conv.groups > 1,
            "BIAS": conv.bias is not None,
            "PRECISION": "tf32" if rounds_to_tf32() else "ieee",
        }


def named(size: tuple[int, ...], ending: str) -> dict[str, int]:
    return {f"{axis}{ending}": length for axis, length in zip("THW", size, strict=True)}


def is_skippable(conv: _Dynamic) -> bool:
    """Whether the kernel computes just the part of `conv` that is needed."""
    plain_padding = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain_padding and conv.groups in (1, conv.in_channels)


def taps_at_once(conv: _Dynamic) -> int:
    """How many taps along W are read as if they were input channels, all or one."""
    few = conv.groups == 1 and conv.in_channels <= FEW and conv.dilation[-1] == 1
    return conv.kernel_size[-1] if few else 1


def packed_weight(conv: _Dynamic) -> Tensor:
    """(taps, C, along · C_in), of whole vectors of inputs; depthwise (taps, C).

    Tensor cores take float32 with the input channels side by side, and no other way.
    """
    weight = conv.weight.detach().flatten(2)
    if conv.groups > 1:
        return weight[:, 0].t().contiguous()
    taps = weight.unflatten(2, (-1, taps_at_once(conv))).permute(2, 0, 3, 1).flatten(2)
    return F.pad(taps, (0, -taps.shape[2] % 16)).contiguous()


def channel_taps(conv: _Dynamic) -> Tensor:
    """Φc as (S - 1, taps, C), in the places of the channels that are rebuilt."""
    rows = [
        F.pad(phi.detach().float().flatten(1).t(), (conv.out_channels - len(phi), 0))
        for phi in conv.cheap.channel
    ]
    return torch.stack(rows) if rows else conv.weight.new_zeros(1, dtype=torch.float32)


def time_taps(conv: _Dynamic) -> Tensor:
    """Φt as (S - 1, most R, taps, C), in the places of the frames that are rebuilt."""
    rows = [
        F.pad(taps, (0, 0, 0, 0, 1, conv.strides[-1] - len(taps) - 1))
        for taps in (phi.detach().float().flatten(2).transpose(1, 2) for phi in conv.cheap.time)
    ]
    return torch.stack(rows) if rows else conv.weight.new_zeros(1, dtype=torch.float32)
