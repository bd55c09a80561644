"""A gate that answers on a GPU by one kernel after the pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from vared_mm.fast.epilogue import affine_of
from vared_mm.fast.gpu.predicated_conv import kernels
from vared_mm.fast.prepared_gate import PreparedGate
from vared_mm.method.gate import Gate, pooled_maps


class DeviceGate(PreparedGate):
    """As `PreparedGate`, for maps on a GPU, its BatchNorm folded into W1."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        scale, bias = affine_of(gate.norm)
        *_, self.weight2, self.beta = self.read
        self.weight1 = (gate.weight1.detach().double() * scale[:, None]).float().contiguous()
        self.bias1 = bias.float()

    def answer(self, x: Tensor) -> Tensor:
        triton = kernels()
        assert triton is not None
        (hidden, inputs), choices = self.weight1.shape, len(self.beta)
        with torch.autocast(x.device.type, enabled=False), torch.cuda.device_of(x):
            pooled = pooled_maps(x, torch.float32, self.gate.change)
            answer = pooled.new_empty(len(x), choices)
            triton.decide[(len(x),)](
                pooled, self.weight1, self.bias1, self.weight2, self.beta, answer,
                self.gate.floor, C=inputs, HIDDEN=hidden, AXES=self.gate.axes,
                PATHS=choices // self.gate.axes, INPUTS=min(64, at_least(inputs)),
                WIDTH=at_least(hidden), NORMALISED=self.gate.normalised,
            )  # fmt: skip
        return answer


def at_least(number: int) -> int:
    """The power of two that is not below it."""
    return 1 << (number - 1).bit_length()
