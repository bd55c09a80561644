"""The kernels that rebuild what was left out, channels first, then frames."""

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
    is_open,
    least_step,
    most_channels,
    of_sample,
)

REBUILD_BLOCKS = blocks("PIXELS CHANNELS", (32, 64, 4, 1), (16, 128, 4, 1), (64, 32, 4, 1))


@triton.jit
def depthwise(frame, kernel, pixel, c, source, keep, size, C, SIDE: tl.constexpr):
    """Φ at some pixels of one frame: output channel c from channel `source`, where `keep`."""
    h, w = pixel // size[2], pixel % size[2]
    acc = tl.full((pixel.shape[0], c.shape[0]), 0, tl.float32)
    for tap in range(SIDE * SIDE):
        row, column = h + tap // SIDE - SIDE // 2, w + tap % SIDE - SIDE // 2
        inside = (row >= 0) & (row < size[1]) & (column >= 0) & (column < size[2]) & (h < size[1])
        read = (row * size[2] + column)[:, None] * C + source[None, :]
        maps = tl.load(frame + read, mask=inside[:, None] & keep[None, :], other=0)
        weights = tl.load(kernel + tap * C + c, mask=keep, other=0)
        acc += maps.to(tl.float32) * weights[None, :]
    return acc


@triton.autotune(REBUILD_BLOCKS, key=["N", "T", "H", "W", "C", "SIDE"], do_bench=in_few_calls)
@triton.jit(do_not_specialize=UNKNOWN)
def rebuild_channels(
    y, phi, channel_gates, time_gates, epilogue, z, out, N, T, H, W,
    C, CHANNEL_PATHS: tl.constexpr, TIME_PATHS: tl.constexpr, SIDE: tl.constexpr,
    FINISHED: tl.constexpr, OTHER: tl.constexpr, RELU: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Y_c = Σ_i V_c[i] · concat(Y'_i, Φc_i(Y'_i)) at the computed frames.

    Args:
        phi: (S - 1, taps, C), Φc_i of channel c at c, float32.
        FINISHED: Whether the maps of samples that rebuild nothing are finished already.
    """
    n = tl.program_id(1)
    size = (T, H, W)
    v_c, v_t = of_sample(channel_gates, n), of_sample(time_gates, n)
    all_frames = first_alone(v_t, TIME_PATHS)
    if first_alone(v_c, CHANNEL_PATHS) & ((all_frames == 0) | FINISHED):
        return
    tiles = (C + CHANNELS - 1) // CHANNELS
    image = size[1] * size[2]
    first_c = tl.program_id(0) % tiles * CHANNELS
    c = first_c + tl.arange(0, CHANNELS)
    place, strips = tl.program_id(0) // tiles, (image + PIXELS - 1) // PIXELS
    pixel = place % strips * PIXELS + tl.arange(0, PIXELS)
    t = place // strips * least_step(v_t, TIME_PATHS)
    if t >= size[0]:
        return
    frame = n.to(tl.int64) * (size[0] * image * C) + t * image * C
    at = frame + pixel[:, None] * C + c[None, :]
    mask = (pixel < image)[:, None] & (c < C)[None, :]
    direct = tl.full((CHANNELS,), 0, tl.float32)
    acc = tl.full((PIXELS, CHANNELS), 0, tl.float32)
    for i in tl.static_range(CHANNEL_PATHS):
        gate = tl.load(v_c + i)
        width = (C + (1 << i) - 1) >> i
        if is_open(gate):
            direct += tl.where(c < width, gate, 0.0)
            if i > 0:
                kernel = phi + (i - 1) * (SIDE * SIDE * C)
                keep = (c >= width) & (c < C)
                acc += gate * depthwise(y + frame, kernel, pixel, c, c % width, keep, size, C, SIDE)
    k = most_channels(v_c, C, CHANNEL_PATHS)
    if first_c < k:
        own = tl.load(y + at, mask=mask, other=0).to(tl.float32)
        acc += tl.where((c < k)[None, :], direct[None, :] * own, 0.0)
    if all_frames:
        finish(acc * tl.load(v_t), at, c, mask, epilogue, out, C, OTHER, RELU)
    else:
        tl.store(z + at, acc.to(z.dtype.element_ty), mask=mask)


@triton.autotune(REBUILD_BLOCKS, key=["N", "T", "H", "W", "C", "SIDE"], do_bench=in_few_calls)
@triton.jit(do_not_specialize=UNKNOWN)
def rebuild_frames(
    y, z, phi, channel_gates, time_gates, epilogue, out, N, T, H, W,
    C, CHANNEL_PATHS: tl.constexpr, TIME_PATHS: tl.constexpr, SIDE: tl.constexpr,
    OTHER: tl.constexpr, RELU: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Y = Σ_j V_t[j] · f_t(Y_c, R_j), where frame q + i·R_j of f_t is Φt_{j,q}(frame i·R_j).

    Args:
        phi: (S - 1, most R, taps, C), Φt_{j,q} at [j - 1, q], float32.
    """
    n = tl.program_id(1)
    size = (T, H, W)
    v_c, v_t = of_sample(channel_gates, n), of_sample(time_gates, n)
    if first_alone(v_t, TIME_PATHS):
        return
    tiles = (C + CHANNELS - 1) // CHANNELS
    image = size[1] * size[2]
    c = tl.program_id(0) % tiles * CHANNELS + tl.arange(0, CHANNELS)
    place, strips = tl.program_id(0) // tiles, (image + PIXELS - 1) // PIXELS
    pixel = place % strips * PIXELS + tl.arange(0, PIXELS)
    t = place // strips
    sample = n.to(tl.int64) * (size[0] * image * C)
    base, factor = z + sample, 1.0
    if first_alone(v_c, CHANNEL_PATHS):
        base, factor = y + sample, tl.load(v_c)
    at = pixel[:, None] * C + c[None, :]
    mask = (pixel < image)[:, None] & (c < C)[None, :]
    acc = tl.full((PIXELS, CHANNELS), 0, tl.float32)
    direct = 0.0
    for j in tl.static_range(TIME_PATHS):
        gate = tl.load(v_t + j)
        q = t % (1 << j)
        if is_open(gate):
            if q == 0:
                direct += gate
            else:
                kernel = phi + (((j - 1) << (TIME_PATHS - 1)) + q) * (SIDE * SIDE * C)
                frame = base + (t - q) * image * C
                acc += gate * depthwise(frame, kernel, pixel, c, c, c < C, size, C, SIDE)
    if t % least_step(v_t, TIME_PATHS) == 0:
        acc += direct * tl.load(base + t * image * C + at, mask=mask, other=0).to(tl.float32)
    at += sample + t * image * C
    finish(acc * factor, at, c, mask, epilogue, out, C, OTHER, RELU)
