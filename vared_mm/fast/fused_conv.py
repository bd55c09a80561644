"""What stands in for the `forward` of a convolution in a prepared model.

All forms take the input and, where the model adds one before its activation, a second tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.branch import Branch, finished, packed_prefix
from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.native_conv import packed
from vared_mm.fast.packed_conv import (
    PackedConv,
    as_channels_last,
    empty_maps,
    output_size,
    residual,
)
from vared_mm.fast.prepared_forward import call_within, has_hooks
from vared_mm.fast.recorder import current, unrecorded
from vared_mm.fast.steps import Decision, Groups
from vared_mm.kernels.convolutions import Geometry
from vared_mm.method.layer import Pattern, _Dynamic, group_by_pattern
from vared_mm.rivals.cgnet import _ChannelGated


class StaticConv:
    """activate(norm(conv(x)) + other): the norm in the weights, the rest in the convolution's loop.

    Args:
        maps: The type of x; None for that of the weights.
    """

    def __init__(self, conv: _ConvNd, epilogue: Epilogue, maps: torch.dtype | None = None) -> None:
        scale, bias = epilogue.scale, epilogue.bias
        weight = conv.weight.detach().float() * scale.view(-1, *[1] * (conv.weight.ndim - 1))
        if conv.bias is not None:
            bias = bias + scale * conv.bias.detach()
        self.conv, self.relu = conv, epilogue.relu
        self.finish = Epilogue(torch.ones_like(scale), bias.float(), epilogue.relu).finish()
        self.packed = packed(weight, bias.float(), Geometry.of(conv), maps or conv.weight.dtype)

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = None if other is None else residual(other, self.conv, x)
        return self.packed(x, other, self.relu)


def refuse_other_sizes(gates: Tensor, conv: _Dynamic, x: Tensor) -> Tensor:
    """The gate's answer as the kernels read it: float32, contiguous, a number for each path."""
    conv.check_answer(gates, x)
    return gates.to(x.device, torch.float32).contiguous()


class DynamicConv:
    """The same for a dynamic convolution: each sample runs the branch its gate asks for."""

    def __init__(self, conv: _Dynamic, epilogue: Epilogue, maps: torch.dtype | None = None) -> None:
        self.conv, self.epilogue, self.maps = conv, epilogue, maps or conv.weight.dtype
        self.gate = conv.gate
        self._branches: dict[tuple[Pattern, int | None], Branch] = {}
        self._prefixes: dict[tuple[int, int], PackedConv] = {}

    def branch(self, pattern: Pattern, first: int | None = None) -> Branch:
        """The prepared way to run `pattern`, and to make all channels or the first ones of those
        that are computed; made when it is first asked for."""
        key = pattern, first
        if key not in self._branches:
            extent = self.conv.extent(pattern)
            with unrecorded():
                if extent not in self._prefixes:
                    self._prefixes[extent] = packed_prefix(self.conv, *extent, self.maps)
                prefix = self._prefixes[extent]
                self._branches[key] = Branch(self.conv, self.epilogue, pattern, prefix, first)
        return self._branches[key]

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        # Not `len`, which torch takes microseconds for.
        if not x.shape[0]:
            return empty_maps(x, (0, self.conv.out_channels, *output_size(self.conv, x.shape[2:])))
        x = as_channels_last(x)
        return self.answer(x, *self.decide(x), other)

    def decide(self, x: Tensor) -> Decision:
        """The answer of the gate, and the samples that opened each pattern."""
        recorder = current()
        return self.decide_now(x) if recorder is None else recorder.decided(self, x)

    def decide_now(self, x: Tensor, before: Decision | None = None) -> Decision:
        """Whether or not the pass is recorded; `before` is what the gate asked last has decided."""
        answer = call_within(self.gate)(x)
        if before is not None and answer is before[0] and not has_hooks(self.gate):
            # A follower read it.
            return before
        gates = refuse_other_sizes(answer, self.conv, x)
        return gates, group_by_pattern(gates.tolist())

    def answer(
        self,
        x: Tensor,
        gates: Tensor,
        groups: Groups,
        other: Tensor | None,
    ) -> Tensor:
        """For what was decided on x channels last, of which there is something."""
        other = None if other is None else residual(other, self.conv, x)
        if len(groups) == 1:
            (pattern,) = groups
            return self.branch(pattern)(x, gates, other)
        recorder = current()
        if recorder is not None:
            return recorder.answered(self, x, gates, groups, other)
        return self.answer_each(x, gates, groups, other)

    def answer_each(self, x: Tensor, gates: Tensor, groups: Groups, other: Tensor | None) -> Tensor:
        """The same, whether or not the pass is recorded; `other` lies as the answer does."""
        out = empty_maps(x, (len(x), self.conv.out_channels, *output_size(self.conv, x.shape[2:])))
        for pattern, samples in groups.items():
            rows = rows_of(x, samples), gates[list(samples)]
            self.branch(pattern)(*rows, other, out, samples)
        return out


class GatedParts:
    """activate(norm(Yp + d · (Y - Yp)) + other), both parts of a convolution of CGNet."""

    def __init__(self, conv: _ChannelGated, epilogue: Epilogue, maps: torch.dtype) -> None:
        n, weight = conv.base, conv.weight.detach()
        bias = None if conv.bias is None else conv.bias.detach()
        self.conv, self.epilogue = conv, epilogue
        self.first = packed(weight[:, :n], bias, Geometry.of(conv), maps)
        self.rest = packed(weight[:, n:], None, Geometry.of(conv), maps)

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        x, n = as_channels_last(x), self.conv.base
        y = self.first(as_channels_last(x[:, :n]))
        rest = self.rest(as_channels_last(x[:, n:]))
        opened = self.conv.gate(y).detach().to(y.dtype)
        return finished(y.addcmul(opened, rest), self.epilogue, other)


def rows_of(x: Tensor, samples: Sequence[int]) -> Tensor:
    """Those samples, in the layout of x; a view where they are neighbours."""
    first, last = samples[0], samples[-1]
    if last - first + 1 == len(samples):
        return x[first : last + 1]
    return as_channels_last(torch.cat([x[i : i + 1] for i in samples]))
