"""Gates are taught which samples lose most by the least computation, measured on the network.

The efficiency loss learns from the gradient by the width of an open path, which does not tell what
it would cost to close it. Here that is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import is_distributed
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vared_mm.engine.around_forward import (
    Finish,
    LossWatchingHook,
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
from vared_mm.method.errors import DynamicError, NoMatchingModuleError
from vared_mm.method.gate import FollowerGate, Gate
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import Look, dynamic_convs, record_cost

# As many times the mean may a sample count: early on some lose a hundred times as much as others.
MOST = 3.0


@HOOKS.register_module()
class TeachGatesHook(LossWatchingHook):
    """Adds `loss_gates` inside the forward pass, and logs `mac_share`.

    In every `interval`-th iteration the batch passes twice more, in evaluation and without
    gradients: with all that its gates can open, and with the least. What a sample loses by the
    least,

        Δ_i = ℓ_i(least) - ℓ_i(all),

    is set against a price λ, above which lie the part `open` of the last `window` ones: above it a
    sample should compute all, below it the least. With g_i = (Δ_i - λ) / mean |Δ - λ|, within ±3,
    and z what a gate answers before tanh, for its first path of an axis and its last one,

        loss_gates = weight · mean over samples, gates, axes and these two of
                     |g_i| · softplus( ∓2z ),

    - where the path should be open: a wrong choice costs what it loses. The gates learn from this
    loss alone, and nothing else learns from it. At first it is drawn who computes all, so that the
    weights learn to serve both; then the gates choose, and what they choose becomes what the sample
    is served best with.

    The BatchNorms of the network, not those of its gates, keep the statistics that they start with,
    which must be a trained network's: those of a batch are of its mixture of policies, fit neither,
    and move with the gates. Without that, one policy for all is what this training ends in.

    The mean share of MACs comes to open + (1 - open) · least share, or somewhat more. Take
    `dynamic.normalised=True`, which makes an open path as wide as in the measurement,
    `dynamic.pool='change'`, and twenty times the learning rate for the gates.

    Args:
        open: Part of the samples that should compute all, in (0, 1).
        weight: Of the loss, above 0.
        correct: Whose loss ℓ is, by the name of the judge.
        interval: Iterations from one measurement to the next. One takes about half as long as a
            step of training.
        draw: Part of the training in which it is drawn, in [0, 1].
        window: Samples. Of many steps ago they tell of another network.

    Raises:
        ValueError: A BatchNorm of the network has never learned statistics; start from a trained
            one (`load_from`).
    """

    def __init__(
        self,
        open: float = 0.5,
        weight: float = 1.0,
        correct: str = "top1",
        interval: int = 2,
        draw: float = 0.25,
        window: int = 60,
    ) -> None:
        if not 0 < open < 1:
            raise ValueError(f"open is {open!r}; wanted a part of the samples between 0 and 1")
        if weight <= 0:
            raise ValueError(f"weight is {weight!r}; wanted a number above 0")
        if not 0 <= draw <= 1:
            raise ValueError(f"draw is {draw!r}; wanted a part of the training, from 0 to 1")
        if interval < 1 or window < 1:
            raise ValueError(f"interval={interval!r}, window={window!r}; wanted 1 or more")
        if correct not in CORRECT:
            raise ValueError(f"correct is {correct!r}; wanted one of {sorted(CORRECT)}")
        self.open, self.weight, self.correct = open, weight, correct
        self.interval, self.draw = interval, draw
        self.losses: deque[float] = deque(maxlen=window)
        self._norms: list[_BatchNorm] = []

    def before_train_iter(self, *args: Any, **kwargs: Any) -> None:
        # Each time: epochs and validations put the whole model back into training.
        for norm in self._norms:
            norm.eval()

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        convs = dynamic_convs(model)
        if not any(isinstance(conv.gate, Gate) for conv in convs.values()):
            raise NoMatchingModuleError(
                f"TeachGatesHook: {type(model).__name__} has no dynamic convolution whose gate "
                "asks the input; use a VaRed backbone or leave the hook out of custom_hooks"
            )

        if any(isinstance(hook, EfficiencyLossHook) for hook in runner.hooks):
            raise ValueError(
                "TeachGatesHook and EfficiencyLossHook both tell the gates what to do, and the "
                "second could not reach them; leave one of them out of custom_hooks"
            )
        warn_of_decay(model, runner.optim_wrapper)
        self._norms = trained_norms(model)

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if self.is_at_first_pass:
                warn_of_frozen(model)
            batches = batches_of(arguments)
            samples = sum(map(len, batches))
            gained = None
            if runner.iter % self.interval == 0:
                gained = self.gained(self.lost(model, arguments))
            forced = None
            if runner.iter < self.draw * runner.max_iters:
                forced = torch.rand(samples) < self.open
            logits = stack.enter_context(answering(convs, forced))
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                check_graph(logits)
                losses = {**losses, "mac_share": record.share(samples).detach().mean()}
                if gained is not None:
                    losses["loss_gates"] = self.weight * gate_loss(logits, gained)
                elif is_distributed():
                    # Wanted of each process: a loss that each parameter takes part in.
                    losses["loss_gates"] = 0 * torch.stack([z.sum() for _, z in logits]).sum()
                return losses

            return finish

        self.watch(runner, watch)

    def lost(self, model: nn.Module, arguments: dict[str, Any]) -> Tensor:
        """Δ (N,) of a batch."""
        judge, batches = CORRECT[self.correct](model), batches_of(arguments)
        losses = []
        with evaluating(model), torch.no_grad():
            for everything in (False, True):
                answers: list[Any] = []
                forced = torch.full((sum(map(len, batches)),), everything)
                with ExitStack() as stack:
                    stack.enter_context(answering(dynamic_convs(model), forced))
                    if judge.reads is not None:
                        keep = partial(_keep_answer, answers=answers)
                        stack.callback(Look(judge.reads, keep).remove)
                    # Past the hooks, as this is called in one.
                    model.forward(**arguments)
                losses.append(judged_loss(judge, answers, batches))
        return losses[0] - losses[1]

    def gained(self, lost: Tensor) -> Tensor:
        """(N,) by how much each sample should rather compute all than the least."""
        self.losses.extend(lost.tolist())
        last = torch.tensor(self.losses)
        price = last.quantile(1 - self.open)
        mean = (last - price).abs().mean().clamp(min=1e-12)
        return ((lost - price.to(lost)) / mean.to(lost)).clamp(-MOST, MOST)


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


@contextmanager
def answering(
    convs: Mapping[str, _Dynamic], forced: Tensor | None
) -> Iterator[list[tuple[Gate, Tensor]]]:
    """Gates answer without a gradient, or as they are told; gives the gates with their z.

    Args:
        forced: (N,) which samples compute all, the others the least; None lets the gates choose.
    """
    seen: list[tuple[Gate, Tensor]] = []

    def told(gate: nn.Module, args: tuple, answer: Tensor, ends: Tensor) -> Tensor:
        if forced is None:
            return answer.detach()
        rows = forced.repeat_interleave(len(answer) // len(forced))
        return ends[(~rows).long()].to(answer)

    with ExitStack() as stack:
        for conv in convs.values():
            gate = conv.gate
            if not isinstance(gate, (Gate, FollowerGate)):
                continue
            if isinstance(gate, Gate):
                stack.callback(gate.register_forward_pre_hook(_detached).remove)
                stack.callback(Look(gate.logits, partial(_keep, gate=gate, seen=seen)).remove)
            # Before all other hooks, so that those see what is really used.
            stack.callback(Look(gate, partial(told, ends=ends_of(conv)), prepend=True).remove)
        yield seen


def _keep_answer(module: nn.Module, args: tuple, out: Any, answers: list[Any]) -> None:
    answers.append(out)


def _detached(gate: nn.Module, args: tuple) -> tuple:
    return tuple(x.detach() for x in args)


def _keep(module: nn.Module, args: tuple, z: Tensor, gate: Gate, seen: list) -> None:
    seen.append((gate, z))


def ends_of(conv: _Dynamic) -> Tensor:
    """What its gate answers for all and for the least, (2, G)."""
    ends = torch.zeros(2, len(conv.axes), conv.dynamic.search_space)
    ends[0, :, 0] = ends[1, :, -1] = 1
    return ends.flatten(1)


def check_graph(logits: list[tuple[Gate, Tensor]]) -> None:
    """Refuses a training in which the loss could not reach the gates."""
    for gate, z in logits:
        wanted = any(p.requires_grad for p in gate.parameters())
        if wanted and torch.is_grad_enabled() and not z.requires_grad:
            raise DynamicError(
                f"loss_gates cannot reach the gate {gate}: it ran without a graph, as under "
                "torch.no_grad() or reentrant activation checkpointing. Checkpoint with "
                "use_reentrant=False, or freeze the gate (requires_grad_(False))"
            )


def gate_loss(logits: list[tuple[Gate, Tensor]], gained: Tensor) -> Tensor:
    """As of `TeachGatesHook`, of samples with g (N,); z (R, G), R a multiple of N."""
    losses = []
    for gate, z in logits:
        g = gained.to(z).repeat_interleave(len(z) // len(gained))[:, None]
        by_axis = z.unflatten(1, (gate.axes, -1))
        towards = g.sign() * torch.stack([by_axis[..., 0], -by_axis[..., -1]])
        losses.append((g.abs() * F.softplus(-2 * towards)).mean())
    return torch.stack(losses).mean()
