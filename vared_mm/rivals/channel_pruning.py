"""Channel pruning: of a whole network, channels of least magnitude go, and it is smaller then.

By torch-pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", 2023), which finds what
has to go together. Other than after weight-level pruning, what is left is all that is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vared_mm.method.flop_counter import counted_macs

# Each layer keeps a sixteenth of its channels at least.
MOST = 15 / 16
STEPS = 48
Run = Callable[[nn.Module, Tensor], Any]


def without_channels(
    model: nn.Module, inputs: Tensor, run: Run, share: float, round_to: int
) -> tuple[nn.Module, float]:
    """A copy of the model with `share` of its MACs, or somewhat less, and how much it has of them.

    Channels of least magnitude, among those of all layers, go step by step until that is reached.

    Args:
        model: With a `cls_head`, whose answers stay as many.
        run: How the model runs on the inputs.
        round_to: Layers keep a multiple of so many channels.

    Raises:
        ValueError: When as many are gone as can be, more is left; or the network does not run with
            fewer.
    """
    import torch_pruning

    dense, least = counted_macs(run, model, inputs), 1.0
    narrow: Any = copy.deepcopy(model)
    pruner = torch_pruning.pruner.BasePruner(
        narrow,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=MOST,
        max_pruning_ratio=MOST,
        iterative_steps=STEPS,
        round_to=round_to,
        ignored_layers=[narrow.cls_head],
        forward_fn=run,
    )
    for _ in range(STEPS):
        pruner.step()
        try:
            least = counted_macs(run, narrow, inputs) / dense
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                "torch-pruning cannot follow how this network moves its channels, as a temporal "
                "shift does by hand: without some of them it does not run any more"
            ) from error
        if least <= share:
            return narrow, least
    raise ValueError(
        f"share={share:g} of the MACs cannot be reached by channels in multiples of {round_to}: "
        f"the least is {least:.3f}; narrow layers want a smaller multiple"
    )


def widths_of(narrow: nn.Module, whole: nn.Module) -> dict[str, tuple[int, ...]]:
    """As `NarrowedBackbone` takes them: the sizes of the weights that lost some."""
    before = {name: parameter.shape for name, parameter in whole.named_parameters()}
    return {
        name.removesuffix(".weight"): tuple(parameter.shape[:2])
        for name, parameter in narrow.named_parameters()
        if name.endswith(".weight") and parameter.shape != before[name]
    }
