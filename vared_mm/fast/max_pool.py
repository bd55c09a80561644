"""Max pooling of clips that lie channels last, which torch does several times more slowly."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_long, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _triple

from vared_mm.fast.packed_conv import new_maps
from vared_mm.fast.prepared_forward import PreparedForward
from vared_mm.kernels.loading import LANES_H, Source, loaded

SOURCE = Source.read(LANES_H, Path(__file__).with_name("max_pool.cpp"))

# Channels of one vector of the kernel.
LANES = 16


class PoolStruct(Structure):
    _fields_ = (
        ("samples", c_long),
        ("channels", c_long),
        *((name, c_long * 3) for name in ("from_", "to", "kernel", "stride", "padding")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where there is no compiler, see `vared_mm.native`."""
    return loaded(SOURCE, max_pool=(POINTER(PoolStruct), c_void_p, c_void_p, c_long))


class MaxPool(PreparedForward):
    """The `forward` of an `nn.MaxPool3d` in a prepared model."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        self.plain = pool.forward
        self.kernel, self.stride, self.padding = (
            _triple(setting) for setting in (pool.kernel_size, pool.stride, pool.padding)
        )

    def compute(self, x: Tensor) -> Tensor:
        suits = x.dtype == torch.float32 and x.device.type == "cpu" and x.ndim == 5
        suits = suits and x.shape[1] >= LANES and x.numel() > 0
        kernels = library() if suits else None
        if kernels is None or not x.is_contiguous(memory_format=torch.channels_last_3d):
            return self.plain(x)
        settings = zip(x.shape[2:], self.kernel, self.stride, self.padding, strict=True)
        size = [(n + 2 * p - k) // s + 1 for n, k, s, p in settings]
        if min(size) < 1 or (x.requires_grad and torch.is_grad_enabled()):
            return self.plain(x)
        out = new_maps(x, (*x.shape[:2], *size))
        struct = PoolStruct(
            *x.shape[:2], *map(tuple, (x.shape[2:], size, self.kernel, self.stride, self.padding))
        )
        kernels.max_pool(struct, x.data_ptr(), out.data_ptr(), torch.get_num_threads())
        return out


def is_plain_pool(module: nn.Module) -> bool:
    """Whether it pools as `MaxPool` does: without dilation, indices or rounding up."""
    return (
        isinstance(module, nn.MaxPool3d)
        and type(module).forward is nn.MaxPool3d.forward
        and _triple(module.dilation) == (1, 1, 1)
        and not module.return_indices
        and not module.ceil_mode
        # Each window meets the maps.
        and all(
            2 * p <= k
            for p, k in zip(_triple(module.padding), _triple(module.kernel_size), strict=True)
        )
    )
