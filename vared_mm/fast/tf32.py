"""Whether torch's convolutions of float32 on a GPU are rounded to TF32, as they are by themselves.

TF32 has the exponent of float32 and the mantissa of float16.
"""

from __future__ import annotations

from typing import Any

import torch


def rounds_to_tf32() -> bool:
    conv: Any = getattr(torch.backends.cudnn, "conv", None)
    # Since torch 2.9; the older flag cannot be read where somebody set the newer one.
    if hasattr(conv, "fp32_precision"):
        return bool(conv.fp32_precision == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


def round_to_tf32(on: bool) -> None:
    """Of convolutions and of matrix products."""
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on
