"""A gate with its BatchNorm folded into its first layer: the same decisions in one call."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vared_mm.fast import native
from vared_mm.fast.epilogue import affine_of
from vared_mm.fast.prepared_forward import PreparedForward
from vared_mm.method.gate import BlockGate, Gate, soft_gate
from vared_mm.method.rebuild import LAYOUTS


class FoldedGate(PreparedForward):
    """Answers as `gate` does in evaluation, and hands the answer to the gate's followers."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        scale, bias = affine_of(gate.norm)
        # float32 whatever the maps are.
        self.weight1 = (gate.weight1.detach().double() * scale[:, None]).float().contiguous()
        self.bias1 = bias.float()
        self.weight2 = gate.weight2.detach().float().contiguous()
        self.beta = gate.beta.detach().float()
        self._struct = native.GateStruct(
            channels=self.weight1.shape[1], hidden=len(self.weight1), axes=gate.axes,
            choices=len(self.beta) // gate.axes, weight1=self.weight1.data_ptr(),
            bias1=self.bias1.data_ptr(), weight2=self.weight2.data_ptr(),
            beta=self.beta.data_ptr(), floor=gate.floor,
        )  # fmt: skip

    def __call__(self, x: Tensor) -> Tensor:
        gate = self.gate
        answer = self._by_kernel(x) if self._kernel_serves(x) else self._by_torch(x)
        if isinstance(gate, BlockGate):
            gate.hand_on(answer)
        return answer

    def _kernel_serves(self, x: Tensor) -> bool:
        return (
            x.dtype == torch.float32
            and x.device.type == "cpu"
            and x.shape[1] == self.weight1.shape[1]
            and x.is_contiguous(memory_format=LAYOUTS[x.ndim])
            and native.library() is not None
        )

    def _by_kernel(self, x: Tensor) -> Tensor:
        kernels = native.library()
        assert kernels is not None
        samples = x.shape[0]
        answer = x.new_empty(samples, self.beta.shape[0])
        pixels, threads = math.prod(x.shape[2:]), torch.get_num_threads()
        kernels.decide(self._struct, x.data_ptr(), samples, pixels, answer.data_ptr(), threads)
        return answer

    def _by_torch(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            pooled = x.mean(tuple(range(2, x.ndim)), dtype=torch.float32)
            hidden = F.linear(pooled, self.weight1, self.bias1).tanh_()
            z = F.linear(hidden, self.weight2, self.beta).unflatten(-1, (self.gate.axes, -1))
            return soft_gate(z, self.gate.floor, self.gate.leak).flatten(-2)
