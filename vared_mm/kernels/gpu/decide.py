"""The kernel that answers for a gate: its two layers and φ, which torch starts ten kernels for."""

# ruff: noqa: N803  (what is known when a kernel is compiled is in capitals)

from __future__ import annotations

import triton
import triton.language as tl

from vared_mm.kernels.gpu.choices import is_open


@triton.jit
def tanh(z):
    return 2 / (1 + tl.exp(-2 * z)) - 1


@triton.jit
def added(a, b):
    return a + b


@triton.jit
def decide(
    pooled, weight1, bias1, weight2, beta, answer, floor,
    C: tl.constexpr, HIDDEN: tl.constexpr, AXES: tl.constexpr, PATHS: tl.constexpr,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, NORMALISED: tl.constexpr,
):  # fmt: skip
    """φ(weight2 · tanh(weight1 · pooled + bias1) + beta) of one sample, all float32.

    Args:
        pooled: (N, C), what is seen of the maps; answer: (N, AXES · PATHS).
        INPUTS, WIDTH: Channels taken at once, and room for HIDDEN; powers of two.
    """
    n, i = tl.program_id(0), tl.arange(0, WIDTH)
    sums = tl.full((WIDTH,), 0, tl.float32)
    for first in range(0, C, INPUTS):
        c = first + tl.arange(0, INPUTS)
        mean = tl.load(pooled + n * C + c, mask=c < C, other=0)
        mask = (i < HIDDEN)[:, None] & (c < C)[None, :]
        rows = tl.load(weight1 + i[:, None] * C + c[None, :], mask=mask, other=0)
        sums += tl.reduce(rows * mean[None, :], 1, added)
    hidden = tanh(sums + tl.load(bias1 + i, mask=i < HIDDEN, other=0))
    choice = tl.arange(0, 4)
    for axis in tl.static_range(AXES):
        gates = tl.full((4,), 0, tl.float32)
        largest, place, opened = float("-inf"), 0, 0
        for path in tl.static_range(PATHS):
            row = axis * PATHS + path
            weights = tl.load(weight2 + row * HIDDEN + i, mask=i < HIDDEN, other=0)
            z = tl.reduce(weights * hidden, 0, added) + tl.load(beta + row)
            gate = tanh(z)
            # NaN stays, and takes no floor.
            opened += is_open(gate).to(tl.int32)
            # Far below zero, several gates are -1.
            place = tl.where(z > largest, path, place)
            largest = tl.maximum(z, largest)
            gates = tl.where(choice == path, tl.where(gate <= 0, 0.0, gate), gates)
        gates = tl.where((opened == 0) & (choice == place), floor, gates)
        if NORMALISED:
            gates = gates / tl.reduce(gates, 0, added)
        to = answer + (n * AXES + axis) * PATHS + choice
        tl.store(to, gates, mask=choice < PATHS)
