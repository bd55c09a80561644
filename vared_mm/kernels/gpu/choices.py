"""What every kernel asks first: which part of its work a sample needs.

gates      pointer to the (N, S) gates of an axis, and what lies between two samples
T, H, W    of the output, and within a kernel also `size`
epilogue   pointers to scale and shift (C,), and to `other`, which is of the shape of `out`
"""

# ruff: noqa: N803  (what is known when a kernel is compiled is in capitals)

from __future__ import annotations

from collections.abc import Callable

import triton
import triton.language as tl
from triton import Config

# Whose numbers come and go with the network and the batch: a kernel made for one of them would
# serve few layers, and there are hundreds of block sizes and layers to be compiled for.
UNKNOWN = ["N", "T", "H", "W", "T_IN", "H_IN", "W_IN"]


def blocks(names: str, *choices: tuple[int, ...]) -> list[Config]:
    """What the autotuner tries: the named sizes, then warps and stages; one to interpret."""
    tiny = (64, 8, 4)[: len(names.split())]
    return [
        Config(dict(zip(names.split(), sizes, strict=True)), num_warps=warps, num_stages=stages)
        for *sizes, warps, stages in ([(*tiny, 1, 1)] if INTERPRETED else choices)
    ]


def programs(images: int, pixels: int) -> Callable[[dict], tuple[int, int]]:
    """The grid over so many pixels of so many images, all channels, and all samples."""

    def grid(meta: dict) -> tuple[int, int]:
        tiles = images * triton.cdiv(pixels, meta["PIXELS"])
        return tiles * triton.cdiv(meta["C"], meta["CHANNELS"]), meta["N"]

    return grid


def in_few_calls(call: Callable[[], object], quantiles: tuple[float, ...]) -> list[float]:
    """Milliseconds; a hundredth of the time that Triton takes for it by itself."""
    return triton.testing.do_bench(call, warmup=1, rep=3, quantiles=quantiles)


@triton.jit
def is_open(gate):
    return (gate > 0) | (gate != gate)


INTERPRETED = not isinstance(is_open, triton.JITFunction)


@triton.jit
def of_sample(gates, n):
    return gates[0] + n * gates[1]


@triton.jit
def first_alone(gates, PATHS: tl.constexpr):
    """Whether this axis computes all and rebuilds nothing."""
    others = 0
    for i in tl.static_range(1, PATHS):
        others += is_open(tl.load(gates + i)).to(tl.int32)
    return others == 0


@triton.jit
def most_channels(gates, C, PATHS: tl.constexpr):
    """k of the widest open path."""
    k = 0
    for i in tl.static_range(PATHS):
        k = tl.maximum(k, tl.where(is_open(tl.load(gates + i)), (C + (1 << i) - 1) >> i, 0))
    return k


@triton.jit
def least_step(gates, PATHS: tl.constexpr):
    """R of the densest open path."""
    step = 1 << (PATHS - 1)
    for j in tl.static_range(PATHS):
        step = tl.minimum(step, tl.where(is_open(tl.load(gates + j)), 1 << j, step))
    return step


@triton.jit
def finish(
    acc, at, c, mask, epilogue, out, C, OTHER: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Writes activate(scale · acc + shift + other)."""
    scale = tl.load(epilogue[0] + c, mask=c < C, other=0)
    acc = acc * scale[None, :] + tl.load(epilogue[1] + c, mask=c < C, other=0)[None, :]
    if OTHER:
        acc += tl.load(epilogue[2] + at, mask=mask, other=0).to(tl.float32)
    if RELU:
        acc = tl.where(acc < 0, 0.0, acc)  # NaN stays, which a maximum would lose
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=mask)
