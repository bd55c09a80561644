"""CGNet's loss on its thresholds, added to the losses of any model that has them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import Finish, unwrapped
from vared_mm.engine.gate_training_hook import GateTrainingHook
from vared_mm.engine.merged_groups import decayed
from vared_mm.method.config import is_within
from vared_mm.method.errors import NoMatchingModuleError
from vared_mm.method.observe import record_cost
from vared_mm.rivals.cgnet import channel_gated


@HOOKS.register_module()
class ThresholdLossHook(GateTrainingHook):
    """Adds `loss_threshold` = λ · Σ (Δ - T)² over all channels of all CGNet convolutions inside the
    forward pass, and logs `mac_share`, their part of the MACs by formula.

    T is the `threshold` of the backbone's `cgnet=dict(...)`.

    Args:
        weight: λ.
    """

    def __init__(self, weight: float = 1e-4) -> None:
        if not is_within(weight, 0):
            raise ValueError(f"weight is {weight!r}; wanted 0 or more")
        self.weight = weight

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        model = unwrapped(runner.model)
        if not channel_gated(model):
            raise NoMatchingModuleError(
                f"ThresholdLossHook: {type(model).__name__} has no convolution of CGNet; use a "
                "CGNet backbone or leave the hook out of custom_hooks"
            )
        warn_of_decay(model, runner.optim_wrapper)

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if self.is_at_first_pass:
                warn_of_fixed_norms(model)
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                # As if the batch were one sample, which all rows belong to.
                share = record.share(samples=1).mean()
                loss = self.weight * threshold_loss(model)
                return {**losses, "loss_threshold": loss, "mac_share": share}

            return finish

        self.watch(runner, watch)


def threshold_loss(model: nn.Module) -> Tensor:
    """Σ (Δ - T)²."""
    convs = channel_gated(model).values()
    parts = [(c.gate.threshold.float() - c.cgnet.threshold).square().sum() for c in convs]
    return torch.stack(parts).sum()


def warn_of_fixed_norms(model: nn.Module) -> None:
    """A threshold means what it says only of maps that are normalised."""
    convs = channel_gated(model)
    fixed = [n for n, conv in convs.items() if conv.training and not conv.gate.norm.training]
    if fixed:
        print_log(
            f"the BatchNorm of {len(fixed)} of {len(convs)} gates, as that of {fixed[0]}, learns "
            "no statistics: the backbone keeps all norms in evaluation mode. Unless a checkpoint "
            "of CGNet trained them, set norm_eval=False",
            "current",
            30,
        )


def warn_of_decay(model: nn.Module, optim_wrapper: Any) -> None:
    """Weight decay would pull all thresholds to 0, whatever T is."""
    thresholds = [conv.gate.threshold for conv in channel_gated(model).values()]
    if count := decayed(thresholds, optim_wrapper):
        print_log(
            f"{count} thresholds have weight decay, which pulls them to 0 and not to T; set "
            "optim_wrapper.paramwise_cfg.custom_keys = {'gate.threshold': dict(decay_mult=0.)}",
            "current",
            30,
        )
