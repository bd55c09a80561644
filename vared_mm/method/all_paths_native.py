"""The training form by one kernel for each direction, on a CPU: see all_paths.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_long, c_void_p
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vared_mm.method.rebuild_native import refuse_other_rows
from vared_mm.native import LANES_H, Source, loaded, uncompiled

SOURCE = Source.read(LANES_H, Path(__file__).with_name("all_paths.cpp"))
MOST_SIDE = 7


class SizeStruct(Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("samples", "channels", "frames", "height", "width"),
            *("side", "channel_paths", "time_paths"),
        )
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no compiler, see `vared_mm.native`."""
    shared = (POINTER(SizeStruct), c_void_p, c_void_p, POINTER(c_void_p), c_long)
    return loaded(
        SOURCE,
        all_paths=(*shared, c_void_p, c_void_p),
        all_paths_back=(*shared, *[c_void_p] * 5, POINTER(c_void_p)),
    )


def kernels() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def kernels_serve(y: Tensor, gates: Sequence[Tensor], cheap: Sequence[Tensor]) -> bool:
    """Whether `native_paths` takes these; what watches or traces operations would not see it."""
    return (
        type(y) is Tensor
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (y, *gates, *cheap))
        and all(weight.shape[-1] <= MOST_SIDE for weight in cheap)
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and library() is not None
    )


def native_paths(y: Tensor, channel: Tensor, time: Tensor, *cheap: Tensor) -> Tensor:
    """`all_paths` of (N, C, T, H, W) in the layout of y, with (N, S) gates, (N, 1) without an axis.

    To copy maps into the other layout and back is quicker than torch's operations.
    """
    refuse_other_rows(y, channel, time)
    layout = torch.channels_last_3d
    out = NativePaths.apply(y.contiguous(memory_format=layout), channel, time, *cheap)
    return out if y.is_contiguous(memory_format=layout) else out.contiguous()


class NativePaths(torch.autograd.Function):
    """Of maps that lie channels last. Keeps nothing but its inputs."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, channel: Tensor, time: Tensor, *cheap: Tensor) -> Tensor:
        tensors = (y, *(t.contiguous() for t in (channel, time, *cheap)))
        ctx.save_for_backward(*tensors)
        out = torch.empty_like(y)
        kernels().all_paths(*shared_arguments(*tensors), y.data_ptr(), out.data_ptr())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return uncompiled(NativePaths._backward, ctx.saved_tensors, g)

    @staticmethod
    def _backward(saved: Sequence[Tensor], g: Tensor) -> tuple[Tensor | None, ...]:
        y, channel, time, *cheap = saved
        g = g.contiguous(memory_format=torch.channels_last_3d)
        dy, d_channel, d_time = map(torch.empty_like, (y, channel, time))
        d_cheap = [torch.zeros_like(weight) for weight in cheap]
        kernels().all_paths_back(
            *shared_arguments(y, channel, time, *cheap),
            *(t.data_ptr() for t in (y, g, dy, d_channel, d_time)), addresses(d_cheap),
        )  # fmt: skip
        return dy, d_channel, d_time, *d_cheap


def shared_arguments(y: Tensor, channel: Tensor, time: Tensor, *cheap: Tensor) -> tuple:
    """What both directions are told first; `cheap` are the channel axis's, then the time's."""
    side = cheap[0].shape[-1] if cheap else 1
    size = size_of(y.shape, side, channel.shape[1], time.shape[1])
    pointers = channel.data_ptr(), time.data_ptr(), addresses(cheap)
    return (size, *pointers, torch.get_num_threads())


@lru_cache(1024)
def size_of(y: torch.Size, side: int, channel_paths: int, time_paths: int) -> SizeStruct:
    return SizeStruct(*y, side, channel_paths, time_paths)


def addresses(tensors: Sequence[Tensor]) -> ctypes.Array:
    return (c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
