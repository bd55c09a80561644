"""What random searches draw from: convolutions and their dynamics, maps in all layouts, gates."""

from __future__ import annotations

import itertools

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from vared_mm.method import DynamicConfig, VaRedConv2d, VaRedConv3d

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
AXES = ("channel", "time"), ("channel",), ("time",)


@st.composite
def convolutions(draw: st.DrawFn, dims: int | None = None) -> nn.Module:
    """Plain ones, of few channels or of one or two vectors of them."""
    dims = draw(st.sampled_from((2, 3))) if dims is None else dims
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    numbers = st.integers
    channels = st.one_of(numbers(1, 9), numbers(15, 35))
    inputs, outputs = draw(channels), draw(channels.filter(lambda c: c > 1))
    form = draw(st.sampled_from(("any", "pointwise", "depthwise", "grouped")))
    kernel = [draw(st.sampled_from((1, 3, 3, 2, 5) if i else (1, 3))) for i in range(dims)]
    if form == "pointwise":
        kernel = [1] * dims
    groups = 1
    if form == "depthwise":
        kernel[-2:] = 3, 3
        inputs = groups = outputs
    if form == "grouped":
        groups = draw(numbers(1, 3))
        inputs, outputs = groups * draw(numbers(1, 6)), groups * draw(numbers(2, 9))
    padding = [k // 2 if draw(st.booleans()) or form == "depthwise" else draw(numbers(0, 2))
               for k in kernel]  # fmt: skip
    stride = [draw(st.sampled_from((1, 1, 2, 3))) for _ in kernel]
    dilation = [draw(st.sampled_from((1, 1, 1, 2))) if k > 1 else 1 for k in kernel]
    return kind(
        inputs, outputs, tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups,
        bias=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def dynamics(draw: st.DrawFn, conv: nn.Module) -> DynamicConfig:
    """Settings that the convolution can take."""
    spaces = [s for s in (2, 3, 4) if conv.out_channels >= 2 ** (s - 1)]
    axes = draw(st.sampled_from(AXES if isinstance(conv, nn.Conv3d) else AXES[:2]))
    return DynamicConfig(
        search_space=draw(st.sampled_from(spaces)),
        axes=axes,
        cheap_kernel=draw(st.sampled_from((3, 3, 1, 5, 7, 9))),
    )


@st.composite
def sizes(draw: st.DrawFn, conv: nn.Module) -> tuple[int, ...]:
    """([T,] H, W) of an input that has an output; rows may be long."""
    least = [
        max(1, d * (k - 1) + 1 - 2 * p)
        for k, p, d in zip(conv.kernel_size, conv.padding, conv.dilation, strict=True)
    ]
    return tuple(low + draw(st.integers(0, 5)) for low in least)


@st.composite
def maps(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers, contiguous, channels last, or a view of a larger tensor."""
    layout = draw(st.sampled_from(("planes", "last", "every second", "of more", "turned")))
    if layout == "every second":
        return torch.randn(2 * shape[0], *shape[1:-1], 2 * shape[-1])[::2, ..., ::2]
    if layout == "of more":
        more = torch.randn(shape[0], shape[1] + 3, *shape[2:])
        return more.to(memory_format=LAYOUTS[len(shape)])[:, 2:-1]
    if layout == "turned":
        return torch.randn(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
    x = torch.randn(shape)
    return x.to(memory_format=LAYOUTS[len(shape)]) if layout == "last" else x


def patterns_of(axes: int, space: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Which paths are open: at least one on each axis."""
    axis = [p for p in itertools.product((0, 1), repeat=space) if any(p)]
    return st.tuples(*[st.sampled_from(axis)] * axes).map(lambda each: sum(each, ()))


@st.composite
def gates(draw: st.DrawFn, samples: int, axes: int, space: int) -> Tensor:
    """An answer for each sample, alike or not."""
    alike = draw(st.booleans())
    one = draw(patterns_of(axes, space))
    rows = [one if alike else draw(patterns_of(axes, space)) for _ in range(samples)]
    return torch.tensor(rows) * (0.2 + 0.7 * torch.rand(samples, axes * space))


@torch.no_grad()
def lively(conv: nn.Module, config: DynamicConfig) -> nn.Module:
    """The dynamic form, with numbers that leave nothing out."""
    kind = VaRedConv3d if isinstance(conv, nn.Conv3d) else VaRedConv2d
    dynamic = kind.from_conv(conv, config)
    for phi in dynamic.cheap.parameters():
        nn.init.normal_(phi, std=0.5)
    nn.init.normal_(dynamic.gate.weight2, std=2.0)
    return dynamic


class Answer(nn.Module):
    """Stands for a gate, in the precision that it is asked in."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer.to(x.dtype)
