"""A dynamic convolution in a graph that chooses, by torch.cond: `If` in other formats.

For one sample. The branch of the widest and the densest open path computes their filters and
frames, and multiplies what its other paths make of them by their gates, 0 where they are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch._higher_order_ops.cond import cond_op

from vared_mm.method.equations import Rebuild, rebuild_by_definition
from vared_mm.method.gate import BlockGate, Gate, decided
from vared_mm.method.layer import _Dynamic
from vared_mm.method.prefix_conv import output_shape, prefix_conv

# Of (x, gates, weight, bias if any, Φ of channels, Φ of time): a branch reads nothing else.
Branch = Callable[..., Tensor]


class ChoosingConv(nn.Module):
    """Answers to one sample as `conv` does, whose gate and parameters it takes over."""

    def __init__(self, conv: _Dynamic) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        bias = [] if conv.bias is None else [conv.bias]
        channel, time = conv.cheap_operations()
        return self.from_channels(0)(
            x, answer_of(conv.gate, x), conv.weight, *bias, *channel, *time
        )

    def from_channels(self, i: int) -> Branch:
        """The first channel path from the i-th on that is open."""
        if i == len(self.conv.widths) - 1:
            return self.from_frames(i, 0)
        return either(i, self.from_frames(i, 0), self.from_channels(i + 1))

    def from_frames(self, i: int, j: int) -> Branch:
        """The first time path from the j-th on that is open, at the i-th of the channels."""
        if j == len(self.conv.strides) - 1:
            return self.branch(i, j)
        column = len(self.conv.axes) * self.conv.dynamic.search_space - len(self.conv.strides) + j
        return either(column, self.branch(i, j), self.from_frames(i, j + 1))

    def branch(self, i: int, j: int) -> Branch:
        conv = self.conv
        pattern = [n >= own for axis, own in (("channel", i), ("time", j)) if axis in conv.axes
                   for n in range(conv.dynamic.search_space)]  # fmt: skip

        def run(x: Tensor, gates: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
            left = list(rest)
            plain: Any = SimpleNamespace(
                **settings_of(conv),
                weight=weight,
                bias=left.pop(0) if conv.bias is not None else None,
            )
            y = prefix_conv(plain, x, conv.widths[i], conv.strides[j])
            phis = len(conv.cheap_operations()[0])
            frames = output_shape(conv, x.shape)[2] if x.ndim == 5 else 1
            return rebuild_by_definition(
                *Rebuild(y, gates, left[:phis], left[phis:], pattern, conv.out_channels, frames)
            )

        return run


def answer_of(gate: nn.Module, x: Tensor) -> Tensor:
    """As it answers by itself, in evaluation.

    Without torch.autocast, which torch's exporter makes graphs of its own of, and loses branches.
    """
    if not isinstance(gate, Gate):
        return gate(x)
    answer = decided(x, *gate.parameters_read(), *gate.settings_read())
    if isinstance(gate, BlockGate):
        gate.hand_on(answer)
    return answer


def either(column: int, is_open: Branch, is_closed: Branch) -> Branch:
    """By a gate of the only sample."""

    def run(x: Tensor, gates: Tensor, *rest: Tensor) -> Tensor:
        # Not torch.cond, which traces branches by a compiler that takes their sizes for unknown.
        # Branches of one answer are tuples, as torch.cond makes them and exporters take them.
        choose: Any = cond_op
        branches = in_tuple(is_open), in_tuple(is_closed)
        return choose(gates[0, column] > 0, *branches, (x, gates, *rest))[0]

    return run


def in_tuple(branch: Branch) -> Callable[..., tuple[Tensor]]:
    return lambda *arguments: (branch(*arguments),)


def settings_of(conv: _Dynamic) -> dict[str, Any]:
    """What `prefix_conv` reads of a convolution besides its parameters."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
             "groups", "padding_mode", "_reversed_padding_repeated_twice")  # fmt: skip
    return {name: getattr(conv, name) for name in names}
