"""A trained model whose gates are fixed: one policy for all samples, or paths drawn at random."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vared_mm.method.errors import DynamicError
from vared_mm.method.gate import FollowerGate
from vared_mm.method.observe import dynamic_convs


def frozen(model: nn.Module, gates: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The weights of `model` with other gates in the place of its own.

    Args:
        gates: The buffers of each, by the name of the convolution that asks it.

    Raises:
        DynamicError: They are of other gates.
    """
    leaders = leaders_of(model)
    if set(leaders.values()) != set(gates):
        raise DynamicError(
            f"the policy is of {len(gates)} gates, as that of {next(iter(gates), None)}, and the "
            f"model has {len(set(leaders.values()))}, as that of {next(iter(leaders), None)}; "
            "evaluate this checkpoint with this config and freeze that result"
        )
    weights = {k: v for k, v in model.state_dict().items() if ".gate." not in f".{k}"}
    for name, leader in leaders.items():
        # What is drawn is handed on.
        if name == leader or "chances" not in gates[leader]:
            weights |= {f"{name}.gate.{buffer}": value for buffer, value in gates[leader].items()}
    return weights


def leaders_of(model: nn.Module) -> dict[str, str]:
    """Each dynamic convolution, and the one that asks the gate for it: most often itself."""
    convs = dynamic_convs(model)
    names: dict[nn.Module, str] = {conv.gate: name for name, conv in convs.items()}
    return {
        name: names[conv.gate.leader] if isinstance(conv.gate, FollowerGate) else name
        for name, conv in convs.items()
    }
