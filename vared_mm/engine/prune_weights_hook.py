"""Trains a network whose smallest weights are zero: weight-level pruning, a rival of Table 7."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from vared_mm.engine.around_forward import evaluating, refuse_twice, unwrapped
from vared_mm.method.config import is_within
from vared_mm.method.errors import DynamicError
from vared_mm.method.flop_counter import FlopCounter
from vared_mm.method.observe import gated_convs
from vared_mm.rivals.weight_pruning import apply_masks, masks_for, record_uses, zero_macs, zeros_of


@HOOKS.register_module()
class PruneWeightsHook(Hook):
    """Prunes any static network by global magnitude before the first step, and keeps it so.

    The weights up to one threshold become zero: the least by which Σ_l density_l · MACs_l over the
    MACs of the network is at most `share`, for inputs of the size that training has. The first
    convolution and the classifier are left out.

    After each step the pruned weights are made zero again, before they are averaged or saved. The
    zeros are the masks: a checkpoint is one of the plain network, with `share` beside it, and a
    training that goes on from it prunes the same weights, with the same share.

    It saves no time, as convolutions compute the zeros too. `CostMetric` tells both, `paper_gmacs`
    by formula and `full_gmacs` as computed.

    Args:
        share: Of the MACs of the network, in (0, 1].
    """

    # Before EMAHook takes the weights of a step.
    priority = "ABOVE_NORMAL"

    def __init__(self, share: float) -> None:
        if not is_within(share, 0, 1) or share == 0:
            raise ValueError(f"share is {share!r}; wanted a part of the MACs, above 0 and up to 1")
        self.share = share
        self._goes_on = False
        self._masks: dict[str, Tensor] | None = None

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        if convs := gated_convs(model):
            raise DynamicError(
                f"PruneWeightsHook prunes static networks, and {next(iter(convs))} of "
                f"{type(model).__name__} has a gate: its cost is what that decides. Take the "
                "backbone without the prefix VaRed or CGNet"
            )
        if hasattr(model, "record_cost"):
            raise DynamicError(
                f"PruneWeightsHook prunes static networks, and {type(model).__name__} chooses what "
                "it runs: its cost is what it chose. Prune a network that runs whole"
            )
        refuse_twice(self, runner)
        self._masks = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["pruned_share"] = self.share

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # Of others, zeros may be any network's, and are pruned like all weights.
        self._goes_on = bool(runner._resume) and "pruned_share" in checkpoint
        if self._goes_on and checkpoint["pruned_share"] != self.share:
            raise ValueError(
                f"share is {self.share}, and the training that is to go on was pruned to "
                f"{checkpoint['pruned_share']}; resume with that share, or begin anew from its "
                "weights alone (load_from without resume)"
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._masks is not None:
            return
        model: Any = unwrapped(runner.model)
        if self._goes_on:
            # What was zero stays so, whatever the size of this batch.
            weights = {name: model.get_submodule(name).weight for name in zeros_of(model)}
            self._masks = {name: weight.detach() != 0 for name, weight in weights.items()}
            return
        # Processes whose inputs differ in size have to prune the same weights.
        told: list[Any] = [*counted(model, data_batch)]
        broadcast_object_list(told)
        uses, total = told
        self._masks = masks_for(model, uses, total, self.share)
        apply_masks(model, self._masks)
        left = 1 - zero_macs(zeros_of(model), uses) / total
        kept = sum(int(mask.sum()) for mask in self._masks.values())
        print_log(
            f"PruneWeightsHook keeps {kept} of {sum(m.numel() for m in self._masks.values())} "
            f"weights, which take {left:.4f} of the MACs by formula; all are computed, in the time "
            "of the dense network",
            "current",
        )

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        apply_masks(unwrapped(runner.model), self._masks or {})


def counted(model: BaseModel, data_batch: Any) -> tuple[dict[str, int], float]:
    """Of the inference of a batch: how often each weight is multiplied, and MACs of all."""
    with (
        evaluating(model),
        torch.no_grad(),
        FlopCounter() as counter,
        record_uses(model) as uses,
    ):
        model.val_step(copy.deepcopy(data_batch))
    return uses, counter.get_total_flops() / 2
