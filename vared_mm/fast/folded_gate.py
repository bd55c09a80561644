"""A gate with its BatchNorm folded into its first layer: the same decisions in fewer calls."""

from __future__ import annotations

import torch
from torch import Tensor

from vared_mm.fast.epilogue import affine_of
from vared_mm.method.gate import BlockGate, Gate, soft_gate


class FoldedGate:
    """Answers as `gate` does in evaluation, and hands the answer to the gate's followers."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        scale, bias = affine_of(gate.norm)
        weight1 = gate.weight1.detach().double() * scale[:, None]
        # Transposed, as addmm wants them, and float32 whatever the maps are.
        self.weight1, self.bias1 = weight1.float().t().contiguous(), bias.float()
        self.weight2 = gate.weight2.detach().float().t().contiguous()
        self.beta = gate.beta.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        gate = self.gate
        with torch.autocast(x.device.type, enabled=False):
            pooled = x.mean(tuple(range(2, x.ndim)), dtype=torch.float32)
            hidden = torch.addmm(self.bias1, pooled, self.weight1).tanh_()
            z = torch.addmm(self.beta, hidden, self.weight2)
            answer = soft_gate(z.unflatten(-1, (gate.axes, -1)), gate.floor, gate.leak).flatten(-2)
        if isinstance(gate, BlockGate) and gate.followers:
            gate._answer, gate._unread = answer, gate.followers
        return answer
