"""In which precision a prepared model's maps lie: its own, or bfloat16 where that is faster."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from vared_mm.method.equations import LAYOUTS

PRECISIONS = ("auto", "float32", "bfloat16")


def maps_of(model: nn.Module, precision: str) -> torch.dtype | None:
    """What the maps of a float32 model on a CPU are cast to; None where they stay as they are.

    Raises:
        ValueError: There is no such precision, or the model is not one that it is for.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; came {precision!r}")
    if precision == "float32" or (precision == "auto" and not computes_in_bfloat16()):
        return None
    kinds = {(p.device.type, p.dtype) for p in model.parameters() if p.is_floating_point()}
    if kinds <= {("cpu", torch.float32)}:
        return torch.bfloat16
    if precision == "auto":
        return None
    found = ", ".join(f"{dtype} on {device}" for device, dtype in sorted(kinds, key=str))
    raise ValueError(
        f"precision='bfloat16' is for a model whose weights are float32 on a CPU; came {found}. On "
        "a GPU prepare model.bfloat16()"
    )


@cache
def computes_in_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16: has AMX or AVX512-BF16."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def cast_maps(dtype: torch.dtype, x: Tensor) -> Tensor:
    """What is floating, and channels last where it is maps, in one pass."""
    if not x.is_floating_point() or x.dtype == dtype:
        return x
    return x.to(dtype, memory_format=LAYOUTS.get(x.ndim, torch.preserve_format))
