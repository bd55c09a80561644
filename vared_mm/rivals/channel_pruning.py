"""Channel pruning: of a whole network, channels of least magnitude go, and it is smaller then.

By torch-pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", 2023), which finds what
has to go together. Other than weight-level pruning it saves time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Each layer keeps a sixteenth of its channels at least.
MOST = 15 / 16
TRIALS = 10
# How far below the wanted MACs a search may end, as a part of them.
TOLERANCE = 0.01
Run = Callable[[nn.Module, Tensor], Any]


def without_channels(
    model: nn.Module, inputs: Tensor, run: Run, share: float, round_to: int
) -> tuple[nn.Module, float]:
    """A copy of the model with `share` of its MACs, or somewhat less, and how much it has of them.

    Bisection finds how many channels go; their magnitude tells which, among those of all layers.

    Args:
        model: With a `cls_head`, whose answers stay as many.
        run: How the model runs on the inputs.
        round_to: Layers keep a multiple of so many channels.

    Raises:
        ValueError: The share is below what is left when all layers lose most.
    """
    dense = macs(model, inputs, run)

    def trial(ratio: float) -> tuple[nn.Module, float]:
        narrow = pruned(model, inputs, run, ratio, round_to)
        return narrow, macs(narrow, inputs, run) / dense

    low, high, best = 0.0, MOST, trial(MOST)
    if best[1] > share:
        raise ValueError(
            f"share={share:g} of the MACs cannot be reached by channels in multiples of "
            f"{round_to}: the least is {best[1]:.3f}; narrow layers want a smaller multiple"
        )
    for _ in range(TRIALS):
        middle = (low + high) / 2
        found = trial(middle)
        if found[1] > share:
            low = middle
        else:
            high, best = middle, max(best, found, key=lambda pair: pair[1])
        if best[1] > (1 - TOLERANCE) * share:
            break
    return best


def pruned(model: nn.Module, inputs: Tensor, run: Run, ratio: float, round_to: int) -> nn.Module:
    """A copy without this part of its channels."""
    import torch_pruning

    narrow: Any = copy.deepcopy(model)
    torch_pruning.pruner.BasePruner(
        narrow,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=MOST,
        round_to=round_to,
        ignored_layers=[narrow.cls_head],
        forward_fn=run,
    ).step()
    return narrow


def macs(model: nn.Module, inputs: Tensor, run: Run) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(model, inputs)
    return counter.get_total_flops() / 2


def widths_of(narrow: nn.Module, whole: nn.Module) -> dict[str, tuple[int, ...]]:
    """As `NarrowedBackbone` takes them: the sizes of the weights that lost some."""
    before = {name: parameter.shape for name, parameter in whole.named_parameters()}
    return {
        name.removesuffix(".weight"): tuple(parameter.shape[:2])
        for name, parameter in narrow.named_parameters()
        if name.endswith(".weight") and parameter.shape != before[name]
    }
