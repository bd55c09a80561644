"""A gate in a prepared model: what the kernel is told of it is made once."""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.fast.graph import has_hooks
from vared_mm.fast.prepared_forward import PreparedForward
from vared_mm.method.gate import BlockGate, Gate, soft_gate
from vared_mm.method.gate_native import NativeGate


def is_plain_gate(module: nn.Module) -> TypeGuard[Gate]:
    """Whether it decides as ours do, and has all that the kernel reads."""
    return (
        isinstance(module, Gate)
        and type(module).forward in (Gate.forward, BlockGate.forward)
        and "forward" not in vars(module)
        and type(module.norm) is nn.BatchNorm1d
        and module.norm.affine
        and module.norm.running_mean is not None
        and not module.norm.training
        and not has_hooks(module.norm)
    )


class PreparedGate(PreparedForward):
    """Answers as `gate` does in evaluation, and hands the answer to the gate's followers."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.plain, norm = gate, gate.forward, gate.norm
        # float32 whatever the maps are.
        self.weight1, self.weight2, self.beta = _in_float(gate.weight1, gate.weight2, gate.beta)
        self.norm = _in_float(norm.running_mean, norm.running_var, norm.weight, norm.bias)
        weights = self.weight1, self.weight2, self.beta
        self._native = NativeGate(weights, self.norm, norm.eps, gate.axes, gate.floor)

    def compute(self, x: Tensor) -> Tensor:
        if has_hooks(self.gate.norm):
            return self.plain(x)
        answer = self._native(x) if self._kernel_serves(x) else self._by_torch(x)
        if isinstance(self.gate, BlockGate):
            self.gate.hand_on(answer)
        return answer

    def _kernel_serves(self, x: Tensor) -> bool:
        return self._native.serves(x)

    def _by_torch(self, x: Tensor) -> Tensor:
        gate = self.gate
        with torch.autocast(x.device.type, enabled=False):
            pooled = x.mean(tuple(range(2, x.ndim)), dtype=torch.float32)
            hidden = F.linear(pooled, self.weight1)
            mean, var, weight, bias = self.norm
            hidden = F.batch_norm(hidden, mean, var, weight, bias, eps=gate.norm.eps).tanh_()
            z = F.linear(hidden, self.weight2, self.beta).unflatten(-1, (gate.axes, -1))
            return soft_gate(z, gate.floor, gate.leak).flatten(-2)


def _in_float(*tensors: Tensor | None) -> list[Tensor]:
    return [v.detach().float().contiguous() for v in tensors if v is not None]
