"""In which precision a prepared model's maps lie: its own, or bfloat16 where that is faster."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.fast.prepared_forward import PreparedForward
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
        "a GPU prepare model.bfloat16(), here model.float()"
    )


@cache
def computes_in_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16: has AMX or AVX512-BF16."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def as_maps(dtype: torch.dtype, x: Tensor) -> Tensor:
    """Maps in float32 in another precision, channels last; all else as it is."""
    is_map = x.dtype == torch.float32 and x.ndim in LAYOUTS
    # One after the other: for both at once torch has no fast loop.
    return x.to(dtype).contiguous(memory_format=LAYOUTS[x.ndim]) if is_map else x


def as_answer(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x


class ExactLinear(PreparedForward):
    """A linear layer in float32: scores of bfloat16 have 8 bits, and classes would tie."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear

    def compute(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return F.linear(x.to(self.linear.weight.dtype), self.linear.weight, self.linear.bias)
