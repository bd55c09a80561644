"""The kernel that computes the part of a convolution that a sample needs."""

# ruff: noqa: N803  (what is known when a kernel is compiled is in capitals)

from __future__ import annotations

import triton
import triton.language as tl

from vared_mm.kernels.gpu.choices import (
    UNKNOWN,
    blocks,
    finish,
    first_alone,
    in_few_calls,
    least_step,
    most_channels,
    of_sample,
)


@triton.autotune(
    blocks(
        "PIXELS CHANNELS INPUTS",
        (128, 128, 32, 8, 3),
        (128, 64, 32, 4, 3),
        (64, 128, 32, 4, 3),
        (64, 64, 64, 4, 3),
        (32, 64, 64, 4, 3),
    ),
    key=["N", "T", "H", "W", "C_IN", "C", "KERNEL", "STRIDE", "ALONG", "DEPTHWISE"],
    do_bench=in_few_calls,
)
@triton.jit(do_not_specialize=UNKNOWN)
def compute(
    x, weight, bias, channel_gates, time_gates, epilogue, y, out,
    N, T_IN, H_IN, W_IN, T, H, W, C_IN, C, CHANNEL_PATHS: tl.constexpr, TIME_PATHS: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
    ALONG: tl.constexpr, DEPTHWISE: tl.constexpr, BIAS: tl.constexpr, OTHER: tl.constexpr,
    RELU: tl.constexpr, PRECISION: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """An implicit GEMM: rows are pixels of the computed frames, columns the computed channels.

    Args:
        weight: (taps, C, ALONG · C_in), the last rounded up to 16; depthwise (taps, C).
        N: The samples, which only the autotuner asks for.
        KERNEL, STRIDE, PADDING, DILATION: Over T, H, W.
        ALONG: Taps along W that are one of KERNEL: what they read lies side by side, and so few
            input channels fill a product.
    """
    n = tl.program_id(1)
    size = (T, H, W)
    input_size = (T_IN, H_IN, W_IN)
    v_c, v_t = of_sample(channel_gates, n), of_sample(time_gates, n)
    k, step = most_channels(v_c, C, CHANNEL_PATHS), least_step(v_t, TIME_PATHS)
    image = size[1] * size[2]
    pixels = (size[0] + step - 1) // step * image
    tiles = (C + CHANNELS - 1) // CHANNELS
    first_c, first_pixel = tl.program_id(0) % tiles * CHANNELS, tl.program_id(0) // tiles * PIXELS
    # Within a tile all is computed: masks that depend on k would split loads and stores into
    # single numbers.
    if (first_c >= k) | (first_pixel >= pixels):
        return
    c, pixel = first_c + tl.arange(0, CHANNELS), first_pixel + tl.arange(0, PIXELS)
    real, wanted = pixel < pixels, c < C
    t_out = pixel // image * step
    t_first = t_out * STRIDE[0] - PADDING[0]
    h_first = pixel % image // size[2] * STRIDE[1] - PADDING[1]
    w_first = pixel % size[2] * STRIDE[2] - PADDING[2]
    sample = x + n.to(tl.int64) * (input_size[0] * input_size[1] * input_size[2] * C_IN)
    width = ALONG * C_IN
    parts = 1 if DEPTHWISE else (width + INPUTS - 1) // INPUTS
    row_pitch = (width + 15) // 16 * 16
    acc = tl.full((PIXELS, CHANNELS), 0, tl.float32)
    for turn in range(KERNEL[0] * KERNEL[1] * KERNEL[2] * parts):
        tap = turn // parts
        t = t_first + tap // (KERNEL[1] * KERNEL[2]) * DILATION[0]
        h = h_first + tap // KERNEL[2] % KERNEL[1] * DILATION[1]
        w = w_first + tap % KERNEL[2] * DILATION[2]
        inside = real
        # Without padding nothing is read from outside.
        if PADDING[0] > 0:
            inside &= (t >= 0) & (t < input_size[0])
        if PADDING[1] > 0:
            inside &= (h >= 0) & (h < input_size[1])
        if (PADDING[2] > 0) & (ALONG == 1):
            inside &= (w >= 0) & (w < input_size[2])
        row = ((t * input_size[1] + h) * input_size[2] + w) * C_IN
        if DEPTHWISE:
            kernel = tl.load(weight + tap * C + c, mask=wanted, other=0).to(tl.float32)
            places = sample + row[:, None] + (c // (C // C_IN))[None, :]
            maps = tl.load(places, mask=inside[:, None] & wanted[None, :], other=0)
            acc += maps.to(tl.float32) * kernel[None, :]
        else:
            i = turn % parts * INPUTS + tl.arange(0, INPUTS)
            places = sample + row[:, None] + i[None, :]
            read = inside[:, None] & (i < width)[None, :]
            if ALONG > 1:
                column = w[:, None] + (i // C_IN)[None, :]
                read &= (column >= 0) & (column < input_size[2])
            maps = tl.load(places, mask=read, other=0)
            filters = weight + (tap * C + c)[None, :] * row_pitch + i[:, None]
            mask = (i < row_pitch)[:, None] & wanted[None, :]
            kernel = tl.load(filters, mask=mask, other=0)
            acc = tl.dot(maps, kernel, acc, input_precision=PRECISION)
    if BIAS:
        acc += tl.load(bias + c, mask=wanted, other=0).to(tl.float32)[None, :]
    at = n.to(tl.int64) * (size[0] * image * C) + (t_out * image + pixel % image)[:, None] * C
    at += c[None, :]
    mask = real[:, None] & wanted[None, :]
    if first_alone(v_c, CHANNEL_PATHS) & first_alone(v_t, TIME_PATHS):
        finish(acc * (tl.load(v_c) * tl.load(v_t)), at, c, mask, epilogue, out, C, OTHER, RELU)
    else:
        tl.store(y + at, acc.to(y.dtype.element_ty), mask=mask)
