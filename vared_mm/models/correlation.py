"""The correlation operator of CorrNet (Wang et al., "Video Modeling with Correlation Networks").

N samples, C channels in G groups, T frames, H x W pixels, K² shifts of a K x K window. With x1
the frame before x2, and zeros outside the image:

    S[n, g, k, t, h, w] = mean over channels c of group g of W[c, t, k] · x1[c] · shift_k(x2)[c]

Whatever K is, memory holds the inputs and the result, never K² copies of an input: the shifts are
views of the padded x2, forward and backward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


def correlation(x1: Tensor, x2: Tensor, weight: Tensor, groups: int) -> Tensor:
    """S as (N, G·K², T, H, W), the shifts of a group together, row by row.

    Args:
        x1, x2: (N, C, T, H, W).
        weight: (C, T, K²), K odd.
        groups: G, a divisor of C.

    Raises:
        ValueError: for shapes that do not fit together.
    """
    side = math.isqrt(weight.shape[-1])
    if x1.ndim != 5 or x1.shape != x2.shape or weight.shape[:2] != x1.shape[1:3]:
        raise ValueError(
            f"wanted x1 and x2 (N, C, T, H, W) and a weight (C, T, K²); came {tuple(x1.shape)}, "
            f"{tuple(x2.shape)} and {tuple(weight.shape)}"
        )
    if side**2 != weight.shape[-1] or not side % 2:
        raise ValueError(f"{weight.shape[-1]} shifts are no K² of an odd K")
    if groups < 1 or x1.shape[1] % groups:
        raise ValueError(f"{x1.shape[1]} channels cannot form {groups} groups")
    return _correlate(x1, x2, weight.to(x1.dtype), groups)


@torch.library.custom_op("vared_mm::correlate", mutates_args=())
def _correlate(x1: Tensor, x2: Tensor, weight: Tensor, groups: int) -> Tensor:
    n, c, *size = x1.shape
    shifts = weight.shape[-1]
    out = x1.new_empty(n, groups, shifts, *size)
    scaled = x1 * (groups / c)
    for k, shifted in enumerate(_shifts(_padded(x2, shifts), size, shifts)):
        part, filters = out[:, :, k], _per_channel(weight, k)
        if groups == c:
            torch.mul(scaled, shifted, out=part).mul_(filters)
        else:
            product = (scaled * shifted).mul_(filters)
            torch.sum(product.unflatten(1, (groups, -1)), 2, out=part)
    return out.flatten(1, 2)


@_correlate.register_fake
def _(x1: Tensor, x2: Tensor, weight: Tensor, groups: int) -> Tensor:
    return x1.new_empty(x1.shape[0], groups * weight.shape[-1], *x1.shape[2:])


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
    *tensors, ctx.groups = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    x1, x2, weight = ctx.saved_tensors
    size, shifts, each = x1.shape[2:], weight.shape[-1], x1.shape[1] // ctx.groups
    grad = grad.unflatten(1, (ctx.groups, shifts))
    grad_x1, grad_weight = torch.zeros_like(x1), torch.zeros_like(weight)
    padded = _padded(x2, shifts)
    grad_padded = torch.zeros_like(padded)
    windows = zip(_shifts(padded, size, shifts), _shifts(grad_padded, size, shifts), strict=True)
    for k, (shifted, grad_shifted) in enumerate(windows):
        arrived = grad[:, :, k] / each
        if each > 1:
            arrived = arrived.repeat_interleave(each, 1)
        product = arrived * shifted
        grad_weight[..., k] = torch.einsum("ncthw,ncthw->ct", product, x1)
        grad_x1 += product.mul_(_per_channel(weight, k))
        grad_shifted += (arrived * x1).mul_(_per_channel(weight, k))
    edge = (math.isqrt(shifts) - 1) // 2
    inside = (..., slice(edge, edge + size[1]), slice(edge, edge + size[2]))
    return grad_x1, grad_padded[inside], grad_weight, None


_correlate.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.vared_mm.correlate)
def _flops(
    x1_shape: Sequence[int], x2_shape: Any, weight_shape: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """One multiply and one add, a MAC, for each pixel, channel and shift."""
    return 2 * math.prod(x1_shape) * weight_shape[-1]


def _padded(x: Tensor, shifts: int) -> Tensor:
    edge = (math.isqrt(shifts) - 1) // 2
    return F.pad(x, (edge,) * 4)


def _shifts(padded: Tensor, size: Sequence[int], shifts: int) -> Iterator[Tensor]:
    """Views (N, C, T, H, W) of the padded tensor, one for each place in the window."""
    side, (_, height, width) = math.isqrt(shifts), size
    for dy in range(side):
        for dx in range(side):
            yield padded[..., dy : dy + height, dx : dx + width]


def _per_channel(weight: Tensor, k: int) -> Tensor:
    return weight[None, :, :, k, None, None]
