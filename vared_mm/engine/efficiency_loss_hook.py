"""The efficiency loss, added to the losses of any model with dynamic convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import (
    Finish,
    batches_of,
    unwrapped,
)
from vared_mm.engine.correctness import CORRECT, judged
from vared_mm.engine.gate_training_hook import GateTrainingHook
from vared_mm.engine.merged_groups import decayed
from vared_mm.engine.told_gates import IN_TRAINING, shifted
from vared_mm.latency_table import grids_for, read_table
from vared_mm.method.config import is_whole, is_within
from vared_mm.method.cost import CostRecord, Grid, efficiency_loss
from vared_mm.method.errors import DynamicError, NoMatchingModuleError
from vared_mm.method.gate import Gate
from vared_mm.method.observe import Look, dynamic_convs, record_cost

COSTS = ("macs", "latency")


@HOOKS.register_module()
class EfficiencyLossHook(GateTrainingHook):
    """Adds `loss_efficiency` = λ_e · L_e inside the forward pass, and logs `mac_share`.

        L_e = ( μ0 · max(Σ_l w_l · share_l - target, 0) )²,   the mean over the batch

    With `cost="macs"`, w_l is the part of layer l in the dynamic convolutions' MACs and share_l is
    r_l/R_l (section 3.4). With `cost="latency"`, milliseconds of a measured table take their
    place: w_l = ms_l[1, 1] / Σ_k ms_k[1, 1] and share_l = ms_l[r_l, R_l] / ms_l[1, 1], which is
    above 1 where rebuilding takes longer than computing; such a choice is never worth it. Either
    way r_l, R_l are those of the largest open path, the gradient is that of the expected share,
    and `mac_share` and `latency_share` in the log are the means of Σ_l w_l · share_l.

    Args:
        weight: λ_e.
        target: Share, of MACs or of time as `cost` says, below which nothing is asked for; 0 is
            the paper's loss. Of two, as (0.3, 0.8), one between them is drawn for each batch, and
            with it β is shifted, by -1 for the first to 1 for the second: so the weights know all
            budgets that `tools/evaluate.py --budget` then asks of the checkpoint. Take
            `dynamic.normalised=True` with it, for the width of what is open.
        correct: Which samples pay: those the model has right by "top1", "matched_box" (of
            localization) or "pixels" (of segmentation), or "always" all.
        ramp: Part of the training over which λ_e rises from 0 to `weight`, in [0, 1]. Gates that
            close before the rest has adapted cost accuracy.
        cost: What L_e asks the model to save, "macs" or "latency".
        table: For "latency": the file that `tools/benchmark.py CONFIG --layers --json FILE` wrote,
            on the machine and with the size of clips that the model is to be fast on.
        batch: Which of the table's batch sizes counts: the one the model is to be used with, not
            that of the training. Samples of a batch that choose differently run in groups: where
            choices are many, 1 is nearer the truth than the size of the batch.
    """

    def __init__(
        self,
        weight: float = 5.0,
        target: float | Sequence[float] = 0.0,
        correct: str = "top1",
        ramp: float = 0.5,
        cost: str = "macs",
        table: str | None = None,
        batch: int = 1,
    ) -> None:
        if not is_within(weight, 0):
            raise ValueError(f"weight is {weight!r}; wanted 0 or more")
        self.targets = ends_of(target)
        if not is_within(ramp, 0, 1):
            raise ValueError(f"ramp is {ramp!r}; wanted a part of the training between 0 and 1")
        if correct not in list(CORRECT):
            raise ValueError(f"correct is {correct!r}; wanted one of {sorted(CORRECT)}")
        if cost not in COSTS:
            raise ValueError(f"cost is {cost!r}; wanted one of {COSTS}")
        if (cost == "latency") != (table is not None):
            raise ValueError(
                f"cost={cost!r} came with table={table!r}; wanted cost='latency' with the file "
                "that vared-mm benchmark CONFIG --layers --json FILE writes, or cost='macs' "
                "without any"
            )
        if not is_whole(batch, 1):
            raise ValueError(f"batch is {batch!r}; wanted a batch size of the table, from 1 up")
        self.weight, self.correct, self.ramp = weight, correct, ramp
        self.table = None if table is None else read_table(table, batch)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        model = unwrapped(runner.model)
        if not dynamic_convs(model):
            raise NoMatchingModuleError(
                f"EfficiencyLossHook: {type(model).__name__} has no dynamic convolution; use a "
                "VaRed backbone or leave the hook out of custom_hooks"
            )
        warn_of_decay(model, runner.optim_wrapper)
        grids = None if self.table is None else grids_for(model, self.table)

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if self.is_at_first_pass:
                warn_of_frozen(model)
            judge, batches = CORRECT[self.correct](model), batches_of(arguments)
            answers: list[Any] = []
            if judge.reads is not None:
                keep = Look(judge.reads, lambda module, args, out: answers.append(out))
                stack.callback(keep.remove)
            record = stack.enter_context(record_cost(model))
            rate = self.weight * self.progress(runner)
            low, high = self.targets
            drawn = float(torch.rand(())) if low < high else 0.0
            target = low + drawn * (high - low)
            moved: list[Tensor] | None = None
            # A policy that was fixed has nothing to shift.
            if low < high and any(isinstance(m, Gate) for m in model.modules()):
                telling = partial(shifted, model, 2 * drawn - 1)
                moved = stack.enter_context(telling())
                self._again.by(telling)

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                if moved is not None and not moved:
                    raise DynamicError(
                        "EfficiencyLossHook: no gate was asked in training, and none could be "
                        "shifted to the target that was drawn; gates that stay in evaluation "
                        f"decide as in a test: {IN_TRAINING}"
                    )
                right, sizes = judged(judge, answers, batches), list(map(len, batches))
                return {**losses, **self.losses(record, right, rate, grids, sizes, target)}

            return finish

        self.watch(runner, watch)

    def progress(self, runner: Runner) -> float:
        """How far λ_e has risen, in [0, 1]."""
        if self.ramp == 0:
            return 1.0
        return min(1.0, self.part_done(runner) / self.ramp)

    def losses(
        self,
        record: CostRecord,
        correct: Tensor,
        rate: float,
        grids: Mapping[str, Grid] | None = None,
        batches: Sequence[int] = (),
        target: float = 0.0,
    ) -> dict[str, Tensor]:
        """Of a pass with `batches` samples in each of its batches, `correct` of all."""
        check_graph(record)
        parts = record.split(batches or [len(correct)])
        share = torch.cat([part.share(samples) for part, samples in parts])
        logged = {"mac_share": share.detach().mean()}
        if grids is not None:
            share = torch.cat([part.latency_share(samples, grids) for part, samples in parts])
            logged["latency_share"] = share.detach().mean()
        loss = rate * efficiency_loss(share, correct, target)
        return {"loss_efficiency": loss, **logged}


def ends_of(target: float | Sequence[float]) -> tuple[float, float]:
    """The least and the largest target."""
    ends: list[Any] = list(target) if isinstance(target, list | tuple) else [target, target]
    if len(ends) != 2 or not all(is_within(end, 0, 1) for end in ends) or ends[0] > ends[1]:
        raise ValueError(
            f"target is {target!r}; wanted a share between 0 and 1, or two, the lower one first"
        )
    return ends[0], ends[1]


def check_graph(record: CostRecord) -> None:
    """Refuses a training in which the loss could not reach the gates."""
    for one in record.seen:
        wanted = any(p.requires_grad for p in one.conv.gate.parameters())
        if wanted and torch.is_grad_enabled() and not one.gates.requires_grad:
            raise DynamicError(
                f"the efficiency loss cannot reach the gate of {one.name}: it ran without a "
                "graph, as under torch.no_grad() or reentrant activation checkpointing. Checkpoint "
                "with use_reentrant=False, let loss() run the network with gradients alone, or "
                "freeze the gate (requires_grad_(False))"
            )


def warn_of_frozen(model: nn.Module) -> None:
    """A gate that cannot learn, or its norm, is as it was made, or as a checkpoint left it."""
    convs = dynamic_convs(model).items()
    gates = {name: conv.gate for name, conv in convs if isinstance(conv.gate, Gate)}
    frozen = [n for n, gate in gates.items() if not any(p.requires_grad for p in gate.parameters())]
    if frozen:
        print_log(
            f"{len(frozen)} of {len(gates)} gates are frozen and cannot learn, as that of "
            f"{frozen[0]}: unless a dynamic checkpoint trained them, their layers answer otherwise "
            "than the static network's. Leave them static by dynamic.exclude or dynamic.targets",
            "current",
            30,
        )
    fixed = [n for n, gate in gates.items() if model.training and not gate.norm.training]
    if fixed:
        print_log(
            f"the BatchNorm of {len(fixed)} of {len(gates)} gates, as that of {fixed[0]}, stays as "
            "it is and learns no statistics: the backbone keeps all norms in evaluation mode. "
            "Unless a dynamic checkpoint trained them, set norm_eval=False",
            "current",
            30,
        )


def warn_of_decay(model: nn.Module, optim_wrapper: Any) -> None:
    """Weight decay on the gates' bias would move all of them, whatever is learned."""
    biases = [m.beta for m in model.modules() if isinstance(m, Gate)]
    if count := decayed(biases, optim_wrapper):
        print_log(
            f"{count} gates have weight decay on their bias, which pulls them shut; set "
            "optim_wrapper.paramwise_cfg.custom_keys = {'gate.beta': dict(decay_mult=0.)}",
            "current",
            30,
        )
