"""The efficiency loss, added to the losses of any model with dynamic convolutions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vared_mm.engine.around_forward import Finish, around_forward, unwrapped
from vared_mm.engine.correctness import CORRECT
from vared_mm.method.cost import CostRecord, efficiency_loss
from vared_mm.method.errors import DynamicError, NoMatchingModuleError
from vared_mm.method.gate import Gate
from vared_mm.method.observe import dynamic_convs, record_cost


@HOOKS.register_module()
class EfficiencyLossHook(Hook):
    """Adds `loss_efficiency` = λ_e · L_e inside the forward pass, and logs `mac_share`.

    `mac_share` is the mean share of the dynamic convolutions' MACs that the open paths compute
    (r/R weighted by MACs; section 3.4).

    Args:
        weight: λ_e.
        target: Share of MACs below which nothing is asked for; 0 is the paper's loss.
        correct: Which samples pay: those the model has right, by the name of the judge.
        ramp: Part of the training over which λ_e rises from 0 to `weight`, in [0, 1]. Gates that
            close before the rest has adapted cost accuracy.
    """

    def __init__(
        self, weight: float = 5.0, target: float = 0.0, correct: str = "top1", ramp: float = 0.5
    ) -> None:
        if weight < 0:
            raise ValueError(f"weight is {weight!r}; wanted 0 or more")
        if not 0 <= target <= 1:
            raise ValueError(f"target is {target!r}; wanted a share of MACs between 0 and 1")
        if not 0 <= ramp <= 1:
            raise ValueError(f"ramp is {ramp!r}; wanted a part of the training between 0 and 1")
        if correct not in CORRECT:
            raise ValueError(f"correct is {correct!r}; wanted one of {sorted(CORRECT)}")
        self.weight, self.target, self.correct, self.ramp = weight, target, correct, ramp
        self._end: Callable[[], None] = lambda: None

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        if not dynamic_convs(model):
            raise NoMatchingModuleError(
                f"EfficiencyLossHook: {type(model).__name__} has no dynamic convolution; use a "
                "VaRed backbone or leave the hook out of custom_hooks"
            )
        warn_of_decay(model, runner.optim_wrapper)

        def watch(stack: ExitStack, kwargs: dict[str, Any]) -> Finish:
            judge = stack.enter_context(CORRECT[self.correct](model))
            record = stack.enter_context(record_cost(model))
            samples = kwargs["data_samples"]
            rate = self.weight * self.progress(runner)
            # No early evaluation: the judge needs the scores of the pass that is to come.
            return lambda losses: {**losses, **self.losses(model, record, judge(samples), rate)}

        self._end()  # of a training that failed
        self._end = around_forward(model, "loss", watch)

    def after_train(self, runner: Runner) -> None:
        self._end()

    def progress(self, runner: Runner) -> float:
        """How far λ_e has risen, in [0, 1]."""
        if self.ramp == 0:
            return 1.0
        return min(1.0, runner.iter / (self.ramp * runner.max_iters))

    def losses(
        self, model: nn.Module, record: CostRecord, correct: torch.Tensor, rate: float
    ) -> dict[str, torch.Tensor]:
        check_graph(model, record)
        share = record.share(len(correct))
        loss = rate * efficiency_loss(share, correct, self.target)
        return {"loss_efficiency": loss, "mac_share": share.detach().mean()}


def check_graph(model: nn.Module, record: CostRecord) -> None:
    """Refuses a training in which the loss could not reach the gates."""
    convs = dynamic_convs(model)
    for one in record.passes:
        wanted = any(p.requires_grad for p in convs[one.name].gate.parameters())
        if wanted and torch.is_grad_enabled() and not one.expected.requires_grad:
            raise DynamicError(
                f"the efficiency loss cannot reach the gate of {one.name}: it ran without a "
                "graph, as reentrant activation checkpointing does. Checkpoint with "
                "use_reentrant=False, or freeze the gate (requires_grad_(False))"
            )


def warn_of_decay(model: nn.Module, optim_wrapper: Any) -> None:
    """Weight decay on the gates' bias would move all of them, whatever is learned."""
    biases = {id(m.beta) for m in model.modules() if isinstance(m, Gate)}
    groups = getattr(optim_wrapper, "param_groups", [])
    decayed = sum(
        id(p) in biases and group.get("weight_decay", 0) > 0
        for group in groups
        for p in group["params"]
    )
    if decayed:
        print_log(
            f"{decayed} gates have weight decay on their bias, which pulls them shut; set "
            "optim_wrapper.paramwise_cfg.custom_keys = {'gate.beta': dict(decay_mult=0.)}",
            "current",
            30,
        )
