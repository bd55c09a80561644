"""The table of convolutions that the promises of the method are held to, and a slow judge.

`expected_output` follows the equations of section 3.2 literally, one sample, path, channel and
frame at a time; it shares no code with the package.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.method import DynamicConfig, VaRedConv2d, VaRedConv3d

# name: (dimensions, settings of the convolution, settings of the dynamics, input size)
CASES = {
    "3x3x3": (3, dict(args=(3, 8, 3), padding=1), {}, (4, 5, 6)),
    "3x3x3, space 3": (3, dict(args=(3, 8, 3), padding=1), dict(search_space=3), (8, 4, 4)),
    "odd channels, odd frames": (3, dict(args=(2, 7, 3), padding=1), {}, (5, 4, 5)),
    "odd everything, space 3": (
        3,
        dict(args=(2, 11, 3), padding=1),
        dict(search_space=3),
        (7, 3, 5),
    ),
    "one frame": (3, dict(args=(2, 6, 1)), dict(search_space=3), (1, 4, 4)),
    "spatial 1x3x3 of R(2+1)D": (
        3,
        dict(args=(3, 5, (1, 3, 3)), padding=(0, 1, 1), bias=False),
        {},
        (4, 5, 5),
    ),
    "temporal 3x1x1": (3, dict(args=(3, 6, (3, 1, 1)), padding=(1, 0, 0)), {}, (6, 3, 3)),
    "strides in time and space": (
        3,
        dict(args=(3, 6, 3), stride=(2, 2, 1), padding=1),
        {},
        (9, 6, 5),
    ),
    "dilation, no padding": (3, dict(args=(2, 6, (3, 3, 1)), dilation=(2, 1, 1)), {}, (9, 5, 4)),
    "even kernel, same padding": (3, dict(args=(2, 6, (4, 2, 3)), padding="same"), {}, (6, 4, 4)),
    "replicate padding": (
        3,
        dict(args=(2, 6, 3), padding=1, padding_mode="replicate"),
        {},
        (5, 4, 4),
    ),
    "depthwise of X3D": (3, dict(args=(6, 6, 3), padding=1, groups=6, bias=False), {}, (6, 4, 4)),
    "groups that the halves cut": (
        3,
        dict(args=(4, 10, 3), padding=1, groups=2),
        dict(search_space=3),
        (4, 3, 3),
    ),
    "depthwise with multiplier": (3, dict(args=(3, 9, 3), padding=1, groups=3), {}, (4, 3, 3)),
    "channel only": (3, dict(args=(3, 6, 3), padding=1), dict(axes=("channel",)), (4, 4, 4)),
    "time only": (
        3,
        dict(args=(3, 6, 3), padding=1),
        dict(axes=("time",), search_space=3),
        (6, 4, 4),
    ),
    "cheap kernel 1": (3, dict(args=(3, 6, 3), padding=1), dict(cheap_kernel=1), (4, 4, 4)),
    "cheap kernel 5, space 4": (
        3,
        dict(args=(2, 9, 1)),
        dict(cheap_kernel=5, search_space=4, axes="channel"),
        (3, 6, 6),
    ),
    "2-D": (2, dict(args=(3, 8, 3), padding=1), {}, (6, 5)),
    # Filters and weights enough for our own kernels, half and a quarter of them too.
    "many filters": (3, dict(args=(3, 40, 3), padding=1), dict(search_space=3), (4, 4, 5)),
    # As many pixels of a row and filters as the kernels take at once, and some more.
    "many columns": (3, dict(args=(3, 40, 3), padding=1), {}, (4, 2, 19)),
    "24 filters": (
        3,
        dict(args=(5, 24, 3), padding=1, stride=(1, 2, 2)),
        {},
        (4, 5, 7),
    ),
    "2-D dilated, odd, space 3": (
        2,
        dict(args=(3, 7, 3), padding=2, dilation=2, stride=2),
        dict(search_space=3),
        (7, 6),
    ),
    "2-D depthwise": (2, dict(args=(6, 6, 3), padding=1, groups=6), {}, (5, 5)),
}


def make_case(name: str, dtype: torch.dtype = torch.float64, samples: int = 3):
    """A dynamic convolution with lively Φ and gates, the plain one, and an input."""
    torch.manual_seed(len(name))
    dims, conv_settings, settings, size = CASES[name]
    conv_settings = dict(conv_settings)
    plain_type, dynamic_type = (nn.Conv2d, VaRedConv2d) if dims == 2 else (nn.Conv3d, VaRedConv3d)
    args = conv_settings.pop("args")
    plain = plain_type(*args, **conv_settings).to(dtype)
    dynamic = dynamic_type.from_conv(plain, DynamicConfig(**settings))
    for weight in dynamic.cheap.parameters():
        nn.init.normal_(weight)
    nn.init.normal_(dynamic.gate.weight2, std=2.0)
    nn.init.zeros_(dynamic.gate.beta)
    return dynamic, plain, torch.randn(samples, args[0], *size, dtype=dtype)


def patterns(dynamic) -> list[tuple[int, ...]]:
    """Every way to open paths, at least one on each axis."""
    axis = [p for p in itertools.product((0, 1), repeat=dynamic.dynamic.search_space) if any(p)]
    return [sum(p, ()) for p in itertools.product(axis, repeat=len(dynamic.axes))]


def gates_of(pattern: tuple[int, ...]) -> list[float]:
    """Distinct numbers in (0, 1) where the pattern is open."""
    return [is_open * (0.9 - 0.12 * i) for i, is_open in enumerate(pattern)]


def expected_output(dynamic, plain, x: Tensor, gates: list[float]) -> Tensor:
    """Y = Σ_j V_t[j]·f_t(Σ_i V_c[i]·f_c(X, r_i), R_j), written out."""
    return torch.stack([_one(dynamic, plain(x[None])[0], gates) for x in x])


def _one(dynamic, y: Tensor, gates: list[float]) -> Tensor:
    s = dynamic.dynamic.search_space
    parts = {axis: gates[i * s : (i + 1) * s] for i, axis in enumerate(dynamic.axes)}
    flat = y.ndim == 3
    y = y[:, None] if flat else y
    if "channel" in parts:
        y = sum(v * _f_c(dynamic, y, i) for i, v in enumerate(parts["channel"]))
    if "time" in parts:
        y = sum(v * _f_t(dynamic, y, j) for j, v in enumerate(parts["time"]))
    return y[:, 0] if flat else y


def _f_c(dynamic, y: Tensor, i: int) -> Tensor:
    k = math.ceil(len(y) / 2**i)
    weights = dynamic.cheap.channel[i - 1] if i else []
    rebuilt = [_phi(y[c % k], w) for c, w in enumerate(weights)]
    assert k + len(rebuilt) == len(y)
    return torch.cat([y[:k], torch.stack(rebuilt)]) if rebuilt else y


def _f_t(dynamic, y: Tensor, j: int) -> Tensor:
    r, frames = 2**j, []
    for t in range(y.shape[1]):
        base, q = y[:, t - t % r], t % r
        weights = dynamic.cheap.time[j - 1][q - 1] if q else None
        frames.append(
            torch.stack([_phi(base[c][None], weights[c])[0] for c in range(len(y))]) if q else base
        )
    return torch.stack(frames, 1)


def _phi(maps: Tensor, weight: Tensor) -> Tensor:
    """One kernel over each of the frames (T, H, W)."""
    kernel = weight.reshape(1, 1, *weight.shape[-2:])
    return F.conv2d(maps[:, None], kernel, padding=weight.shape[-1] // 2)[:, 0]
