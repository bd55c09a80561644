"""A gate in a prepared model: what the kernel is told of it is made once."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import Tensor, nn

from vared_mm.fast.prepared_forward import PreparedForward, has_hooks
from vared_mm.fast.recorded import Recorded
from vared_mm.kernels.decide import Deciding
from vared_mm.method.gate import BlockGate, Gate, decide_by_definition, is_plain_norm


def is_plain_gate(module: nn.Module | None) -> TypeGuard[Gate]:
    """Whether it decides as ours do, and has all that the kernel reads."""
    return (
        isinstance(module, Gate)
        and type(module).forward in (Gate.forward, BlockGate.forward)
        and "forward" not in vars(module)
        and is_plain_norm(module.norm)
    )


class PreparedGate(PreparedForward):
    """Answers as `gate` does in evaluation, and hands the answer to the gate's followers."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.plain = gate, gate.forward
        # float32 whatever the maps are.
        self.read = [v.detach().float().contiguous() for v in gate.parameters_read()]
        self._kernel = Deciding(self.read, *gate.settings_read())
        self._recorded = Recorded(self.answer)

    def compute(self, x: Tensor) -> Tensor:
        if has_hooks(self.gate.norm):
            return self.plain(x)
        answer = self._recorded(x)
        if isinstance(self.gate, BlockGate):
            self.gate.hand_on(answer)
        return answer

    def answer(self, x: Tensor) -> Tensor:
        """(N, axes · S), float32."""
        if self._kernel.serves(x):
            return self._kernel(x)
        arguments: Any = (*self.read, *self.gate.settings_read())
        return decide_by_definition(x, *arguments)
