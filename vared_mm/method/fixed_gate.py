"""Gates that do not ask the input: what choices by the input are to be measured against.

They answer with one tensor (N, G) as `gate.py` does, and cost nothing. `values` come with the
checkpoint; a network that loads none computes everything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vared_mm.method.config import DynamicConfig
from vared_mm.method.errors import DynamicError


class FixedGate(nn.Module):
    """One policy for all samples: `values` (axes · S,), 0 for closed paths."""

    values: Tensor

    def __init__(self, axes: int, config: DynamicConfig) -> None:
        super().__init__()
        self.choices = config.search_space
        first = torch.zeros(axes, self.choices, dtype=torch.float32)
        first[:, 0] = 1
        self.register_buffer("values", first.flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.values.to(x.device, torch.float32).repeat(x.shape[0], 1)

    def macs(self) -> int:
        return 0

    def extra_repr(self) -> str:
        return ", ".join(f"{value:.2f}" for value in self.values.tolist())


class RandomGate(FixedGate):
    """Each sample opens one path of each axis, drawn anew in every pass, training and evaluation:
    `values` are the paths' chances, which add up to 1 on each axis. An open path's gate is 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        chances = self.values.to(x.device, torch.float32).view(-1, self.choices)
        drawn = torch.multinomial(chances, x.shape[0], replacement=True)
        return nn.functional.one_hot(drawn.T, self.choices).flatten(1).to(chances.dtype)


KINDS = {"fixed": FixedGate, "random": RandomGate}


def frozen(
    state: dict[str, Tensor], policy: dict[str, list[float]], followers: dict[str, str]
) -> dict[str, Tensor]:
    """The weights of a model with fixed gates, from those of one with gates that ask the input.

    Args:
        policy: Each gate's values, by the name of the convolution that asks it.
        followers: Convolutions that take over the answer of another's gate, with its name.

    Raises:
        DynamicError: The policy is of other gates.
    """
    gates = {name: policy[leader] for name, leader in followers.items() if leader in policy}
    gates |= policy
    dynamic = {key.rpartition(".cheap.")[0] for key in state if ".cheap." in key}
    if dynamic != set(gates):
        odd = sorted(dynamic ^ set(gates))[0]
        raise DynamicError(
            f"the policy is of {len(gates)} convolutions and the checkpoint has {len(dynamic)} that "
            f"are dynamic; {odd} is of one alone. Evaluate this checkpoint and freeze that result"
        )
    kept = {key: value for key, value in state.items() if ".gate." not in key}
    return kept | {f"{name}.gate.values": torch.tensor(row) for name, row in gates.items()}
