"""Gates are taught which samples lose most by less computation, measured on the network.

The efficiency loss learns from the gradient by the width of an open path, which does not tell what
it would cost to close it. Here that is measured.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import is_distributed
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from vared_mm.engine.around_forward import (
    Finish,
    batches_of,
    evaluating,
    unwrapped,
)
from vared_mm.engine.correctness import CORRECT, judged_loss
from vared_mm.engine.efficiency_loss_hook import (
    EfficiencyLossHook,
    warn_of_decay,
    warn_of_frozen,
)
from vared_mm.engine.gate_training_hook import GateTrainingHook
from vared_mm.engine.merged_groups import optimizers_of
from vared_mm.engine.told_gates import IN_TRAINING, Asked, answering, axes_of
from vared_mm.method.config import is_within
from vared_mm.method.errors import DynamicError, NoMatchingModuleError
from vared_mm.method.gate import Gate
from vared_mm.method.observe import Look, dynamic_convs, record_cost

# As many times the mean may a sample count: early on some lose a hundred times as much as others.
MOST = 3.0


@HOOKS.register_module()
class TeachGatesHook(GateTrainingHook):
    """Adds `loss_gates` inside the forward pass, and logs `mac_share`.

    In every `interval`-th iteration the batch passes some more times, in evaluation and without
    gradients: with all that its gates can open, and with the least of one axis a and all of the
    others, for each axis. What a sample i loses by it,

        Δ_ia = ℓ_i(least of a) - ℓ_i(all),

    is set against the share m_a of the MACs that it saves, at a price λ: what is worth more per MAC
    should be open, the rest closed. At this price the last `window` samples buy the part `open` of
    all that they could. With g_ia = (Δ_ia - λm_a) / mean |Δ - λm|, within ±3, and z what a gate
    answers before tanh, for its first path of an axis and its last one,

        loss_gates = weight · mean over samples, gates, axes and these two of
                     |g_ia| · softplus( ∓2z ),

    with minus where the path should be open: a wrong choice costs what it loses. The gates learn
    from this loss alone, and nothing else learns from it. At first it is drawn what is open, so
    that the weights learn to serve all; then the gates choose, and what they choose becomes what
    the sample is served best with.

    The BatchNorms of the network, not those of its gates, keep the statistics that they start with,
    which must be a trained network's: those of a batch are of its mixture of policies, fit neither,
    and move with the gates. Without that, one policy for all is what this training ends in.

    The mean share of MACs comes to about open + (1 - open) · least share. Where more is to be spent
    than samples lose by, the price is nothing and all opens. Take `dynamic.normalised=True`, which
    makes an open path as wide as in the measurement, `dynamic.pool='change'`, and twenty times the
    learning rate for the gates.

    Args:
        open: Part of the MACs that can be saved, summed over samples and axes, that is to be spent,
            in (0, 1).
        weight: Of the loss, above 0.
        correct: Whose loss ℓ is: that of "top1", "matched_box" or "pixels".
        interval: Iterations from one measurement to the next. One takes about as long as a step of
            training.
        draw: Part of the training in which it is drawn, in [0, 1].
        window: Samples. Of many steps ago they tell of another network.

    Raises:
        ValueError: A BatchNorm of the network has never learned statistics; start from a trained
            one (`load_from`).
    """

    def __init__(
        self,
        open: float = 0.25,
        weight: float = 1.0,
        correct: str = "top1",
        interval: int = 2,
        draw: float = 0.25,
        window: int = 60,
    ) -> None:
        if not is_within(open, 0, 1) or open in (0, 1):
            raise ValueError(f"open is {open!r}; wanted a part of the samples between 0 and 1")
        if not is_within(weight, 0) or weight == 0:
            raise ValueError(f"weight is {weight!r}; wanted a number above 0")
        if not is_within(draw, 0, 1):
            raise ValueError(f"draw is {draw!r}; wanted a part of the training, from 0 to 1")
        if any(type(n) is not int or n < 1 for n in (interval, window)):
            raise ValueError(
                f"interval={interval!r}, window={window!r}; wanted whole numbers from 1 up"
            )
        # By "always" nobody would lose anything, and nothing be taught.
        if correct not in (judges := sorted(set(CORRECT) - {"always"})):
            raise ValueError(f"correct is {correct!r}; wanted one of {judges}")
        self.open, self.weight, self.correct = open, weight, correct
        self.interval, self.draw = interval, draw
        self.losses: deque[list[float]] = deque(maxlen=window)
        self._norms: list[_BatchNorm] = []
        # Those whose next step has something that was taught.
        self._taught: set[Optimizer] = set()
        self._handles: list[RemovableHandle] = []

    def before_train_iter(self, *args: Any, **kwargs: Any) -> None:
        super().before_train_iter(*args, **kwargs)
        # Each time: epochs and validations put the whole model back into training.
        for norm in self._norms:
            norm.eval()

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        model = unwrapped(runner.model)
        convs = dynamic_convs(model)
        if not convs:
            raise NoMatchingModuleError(
                f"TeachGatesHook: {type(model).__name__} has no dynamic convolution; use a VaRed "
                "backbone or leave the hook out of custom_hooks"
            )
        if not any(isinstance(conv.gate, Gate) for conv in convs.values()):
            # As EfficiencyLossHook: a policy that was fixed is trained on by the same config.
            runner.logger.warning(
                "TeachGatesHook has nothing to teach, as no gate of the model asks the input "
                "(dynamic.gate='fixed' or 'random')"
            )
            return
        if any(isinstance(hook, EfficiencyLossHook) for hook in runner.hooks):
            raise ValueError(
                "TeachGatesHook and EfficiencyLossHook both tell the gates what to do, and the "
                "second could not reach them; leave one of them out of custom_hooks"
            )
        warn_of_decay(model, runner.optim_wrapper)
        self._norms = trained_norms(model)
        axes, optimizers = axes_of(convs), optimizers_of(runner.optim_wrapper)

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if self.is_at_first_pass:
                warn_of_frozen(model)
            batches = batches_of(arguments)
            samples = sum(map(len, batches))
            gained = None
            if runner.iter % self.interval == 0:
                gained = self.gained(*self.lost(model, arguments))
            forced = None
            if self.part_done(runner) < self.draw:
                # As often all and nothing as anything between.
                forced = torch.rand(samples, len(axes)) < torch.rand(samples, 1)
            telling = partial(answering, convs, forced)
            logits = stack.enter_context(telling())
            self._again.by(telling)
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                if not logits:
                    raise DynamicError(
                        "TeachGatesHook: no gate was asked in training; gates that stay in "
                        f"evaluation decide as in a test: {IN_TRAINING}"
                    )
                check_graph(logits)
                losses = {**losses, "mac_share": record.share(samples).detach().mean()}
                if gained is not None:
                    losses["loss_gates"] = self.weight * gate_loss(logits, gained)
                    self._taught.update(optimizers)
                elif is_distributed():
                    # Wanted of each process: a loss that each parameter takes part in.
                    unused = [asked.z.sum() for asked in logits]
                    losses = joined(losses, 0 * torch.stack(unused).sum())
                return losses

            return finish

        self.watch(runner, watch)
        if is_distributed():
            gates = {p for m in model.modules() if isinstance(m, Gate) for p in m.parameters()}
            leave = partial(self._leave_untaught, gates)
            self._handles = [one.register_step_pre_hook(leave) for one in optimizers]

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        while self._handles:
            self._handles.pop().remove()

    def _leave_untaught(self, gates: set[nn.Parameter], optimizer: Optimizer, *args: Any) -> None:
        """Before a step: gates that were not taught have no gradient, as in one process, in place
        of one of zeros, by which momentum and decay would move them."""
        if optimizer not in self._taught:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                if parameter in gates:
                    parameter.grad = None
        self._taught.discard(optimizer)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["teach_gates_losses"] = list(self.losses)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self.losses.extend(checkpoint.get("teach_gates_losses", []))

    def lost(self, model: nn.Module, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Δ (N, A) of a batch, and m (A,)."""
        judge, batches = CORRECT[self.correct](model), batches_of(arguments)
        convs, samples = dynamic_convs(model), sum(map(len, batches))
        axes = axes_of(convs)
        losses, shares = [], []
        with evaluating(model), torch.no_grad():
            # All, then all but one axis.
            for opened in [torch.ones(len(axes)), *(1 - torch.eye(len(axes)))]:
                answers: list[Any] = []
                with ExitStack() as stack:
                    stack.enter_context(answering(convs, opened.bool().expand(samples, -1)))
                    record = stack.enter_context(record_cost(model))
                    if judge.reads is not None:
                        keep = partial(_keep_answer, answers=answers)
                        stack.callback(Look(judge.reads, keep).remove)
                    # Past the hooks, as this is called in one.
                    model.forward(**arguments)
                losses.append(judged_loss(judge, answers, batches))
                shares.append(record.share(samples).mean())
        # What autocast converted here has no graph, and older torch kept it for the step.
        torch.clear_autocast_cache()
        lost, share = torch.stack(losses, 1), torch.stack(shares)
        return lost[:, 1:] - lost[:, :1], share[0] - share[1:]

    def gained(self, lost: Tensor, saved: Tensor) -> Tensor:
        """(N, A) by how much each sample should rather compute all of an axis than the least.

        Raises:
            DynamicError: The least of no axis saves anything.
        """
        if not (saved > 0).any():
            raise DynamicError(
                "TeachGatesHook: no axis of the network saves MACs on these samples, so that there "
                "is nothing to teach, as with dynamic.axes='time' of clips of one frame; take "
                "longer clips or another axis"
            )
        self.losses.extend(lost.tolist())
        last, saved = torch.tensor(self.losses).to(lost), saved.to(lost)
        price = price_of(last, saved.expand_as(last), self.open)
        mean = (last - price * saved).abs().mean().clamp(min=1e-12)
        return ((lost - price * saved) / mean).clamp(-MOST, MOST)


def price_of(lost: Tensor, saved: Tensor, part: float) -> Tensor:
    """Per MAC: what loses more takes that part of all of them. What saves nothing has no price."""
    lost, saved = lost[saved > 0], saved[saved > 0]
    worth, order = (lost / saved).sort(descending=True)
    spent = saved[order].cumsum(0)
    bought = int((spent <= part * saved.sum()).sum())
    # Between the last that is bought and the first that is not.
    return worth[max(0, bought - 1) : bought + 1].mean()


def trained_norms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms of the network without those of its gates; refused where one is untrained."""
    norms = {n: m for n, m in model.named_modules() if isinstance(m, _BatchNorm)}
    of_gates = {m for gate in model.modules() if isinstance(gate, Gate) for m in gate.modules()}
    norms = {name: norm for name, norm in norms.items() if norm not in of_gates}
    # By the means: converted checkpoints do not tell how many batches there were.
    new = [n for n, m in norms.items() if m.running_mean is not None and not m.running_mean.any()]
    if new:
        raise ValueError(
            f"TeachGatesHook: {len(new)} of {len(norms)} BatchNorms, as {new[0]}, have learned no "
            "statistics, and would learn none here; start from a trained network: load_from=... or "
            "init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    return list(norms.values())


def _keep_answer(module: nn.Module, args: tuple, out: Any, answers: list[Any]) -> None:
    answers.append(out)


def check_graph(logits: list[Asked]) -> None:
    """Refuses a training in which the loss could not reach the gates."""
    for gate, _, z in logits:
        wanted = any(p.requires_grad for p in gate.parameters())
        if wanted and torch.is_grad_enabled() and not z.requires_grad:
            raise DynamicError(
                f"loss_gates cannot reach the gate {gate}: it ran without a graph, as under "
                "torch.no_grad() or reentrant activation checkpointing. Checkpoint with "
                "use_reentrant=False, or freeze the gate (requires_grad_(False))"
            )


def gate_loss(logits: list[Asked], gained: Tensor) -> Tensor:
    """As of `TeachGatesHook`, of samples with g (N, A); R rows of a gate, a multiple of N."""
    losses = []
    for gate, axes, z in logits:
        g = gained.to(z)[:, axes].repeat_interleave(len(z) // len(gained), 0)
        by_axis = z.unflatten(1, (gate.axes, -1))
        towards = g.sign() * torch.stack([by_axis[..., 0], -by_axis[..., -1]])
        losses.append((g.abs() * F.softplus(-2 * towards)).mean())
    return torch.stack(losses).mean()


def joined(losses: dict[str, Any], part: Tensor) -> dict[str, Any]:
    """With `part` in the first of the losses, so that the log has no other one."""
    names = [name for name, value in losses.items() if "loss" in name and isinstance(value, Tensor)]
    name = next(iter(names), "loss_gates")
    return {**losses, name: losses.get(name, 0) + part}
