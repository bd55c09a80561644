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
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import (
    Finish,
    Watching,
    around_steps,
    batches_of,
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


@HOOKS.register_module()
class TeachGatesHook(Hook):
    """Adds `loss_gates` inside the forward pass, and logs `mac_share`.

    Before each step the batch passes in evaluation and without gradients, with all that its gates
    can open, and in every `interval`-th also with the least. What a sample loses by the least,

        Δ_i = ℓ_i(least) - ℓ_i(all),

    is set against the last `window` ones: the part `open` of largest Δ should compute all, the
    rest the least. With z what a gate answers before tanh, for its first path of an axis and its
    last one,

        loss_gates = weight · mean over gates, axes and these two of softplus( ∓2z ),

    - where the path should be open. The gates learn from this loss alone, and nothing else learns
    from it. In training the part `open` of the samples computes all, by which the gates in their
    mean would rather open: so the weights go on serving both, and what a gate can tell apart comes
    to need different things.

    The mean share of MACs comes to about open + (1 - open) · least share. Take
    `dynamic.normalised=True`, which makes an open path as wide as in the measurement,
    `dynamic.pool='change'`, and twenty times the learning rate for the gates.

    Args:
        open: Part of the samples that should compute all, in (0, 1).
        weight: Of the loss, above 0.
        correct: Whose loss ℓ is, by the name of the judge.
        interval: Iterations from one measurement of the least to the next.
        window: Samples.
    """

    def __init__(
        self,
        open: float = 0.5,
        weight: float = 1.0,
        correct: str = "top1",
        interval: int = 2,
        window: int = 120,
    ) -> None:
        if not 0 < open < 1:
            raise ValueError(f"open is {open!r}; wanted a part of the samples between 0 and 1")
        if weight <= 0:
            raise ValueError(f"weight is {weight!r}; wanted a number above 0")
        if interval < 1 or window < 1:
            raise ValueError(f"interval={interval!r}, window={window!r}; wanted 1 or more")
        if correct not in CORRECT:
            raise ValueError(f"correct is {correct!r}; wanted one of {sorted(CORRECT)}")
        self.open, self.weight, self.correct = open, weight, correct
        self.interval = interval
        self.losses: deque[float] = deque(maxlen=window)
        self.scores: deque[float] = deque(maxlen=window)
        self._watching: Watching | None = None

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

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if not (self._watching and self._watching.seen):
                warn_of_frozen(model)
            batches = batches_of(arguments)
            samples = sum(map(len, batches))
            everything, score = self.asked(model, arguments)
            wanted = None
            if runner.iter % self.interval == 0:
                lost = self.asked(model, arguments, everything=False)[0] - everything
                wanted = lost > upper(self.losses, lost, self.open)
            chosen = score > upper(self.scores, score, self.open)
            logits = stack.enter_context(answering(convs, chosen))
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                check_graph(logits)
                losses = {**losses, "mac_share": record.share(samples).detach().mean()}
                if wanted is not None:
                    losses["loss_gates"] = self.weight * gate_loss(logits, wanted)
                elif is_distributed():
                    # Wanted of each process: a loss that each parameter takes part in.
                    losses["loss_gates"] = 0 * torch.stack([z.sum() for z in logits.values()]).sum()
                return losses

            return finish

        self._end()
        self._watching = around_steps(runner, "loss", watch)

    def asked(
        self, model: nn.Module, arguments: dict[str, Any], everything: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Of a batch that computes all, or the least: each sample's loss (N,), and how much its
        gates would rather open all than the least (N,)."""
        judge, batches = CORRECT[self.correct](model), batches_of(arguments)
        samples = sum(map(len, batches))
        answers: list[Any] = []
        with evaluating(model), torch.no_grad(), ExitStack() as stack:
            same = torch.full((samples,), everything)
            logits = stack.enter_context(answering(dynamic_convs(model), same))
            if judge.reads is not None:
                keep = partial(_keep_answer, answers=answers)
                stack.callback(Look(judge.reads, keep).remove)
            # Past the hooks, as this is called in one.
            model.forward(**arguments)
        scores = [torch.stack(ends_in(gate, z)).mean(2).unflatten(1, (samples, -1)).mean(2)
                  for gate, z in logits.items()]  # fmt: skip
        first, last = torch.stack(scores).mean(0)
        return judged_loss(judge, answers, batches), first - last

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        if self._watching:
            self._watching.refuse_unseen(type(self).__name__)

    def after_train(self, runner: Runner) -> None:
        self._end()

    def _end(self) -> None:
        if self._watching:
            self._watching()
        self._watching = None


def upper(seen: deque[float], new: Tensor, part: float) -> Tensor:
    """What the upper part of the last numbers exceeds, the new ones among them."""
    seen.extend(new.tolist())
    return torch.tensor(seen).quantile(1 - part).to(new)


@contextmanager
def answering(convs: Mapping[str, _Dynamic], chosen: Tensor) -> Iterator[dict[Gate, Tensor]]:
    """Gates answer all or the least, without a gradient; gives their z, (R, G).

    Args:
        chosen: (N,) which samples compute all.
    """
    seen: dict[Gate, Tensor] = {}

    def keep(module: nn.Module, args: tuple, z: Tensor, gate: Gate) -> None:
        seen[gate] = z

    def told(gate: nn.Module, args: tuple, answer: Tensor, ends: Tensor) -> Tensor:
        rows = chosen.to(answer.device).repeat_interleave(len(answer) // len(chosen))
        return ends.to(answer)[(~rows).long()]

    with ExitStack() as stack:
        for conv in convs.values():
            gate = conv.gate
            if isinstance(gate, Gate):
                stack.callback(gate.register_forward_pre_hook(_detached).remove)
                # So that z comes by in evaluation too.
                stack.callback(Look(gate.norm, _nothing).remove)
                stack.callback(Look(gate.logits, partial(keep, gate=gate)).remove)
            if isinstance(gate, (Gate, FollowerGate)):
                # Before all other hooks, so that those see what is really used.
                tell = partial(told, ends=ends_of(conv))
                stack.callback(Look(gate, tell, prepend=True).remove)
        yield seen


def _nothing(*args: Any) -> None:
    pass


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


def check_graph(logits: Mapping[Gate, Tensor]) -> None:
    """Refuses a training in which the loss could not reach the gates."""
    for gate, z in logits.items():
        wanted = any(p.requires_grad for p in gate.parameters())
        if wanted and torch.is_grad_enabled() and not z.requires_grad:
            raise DynamicError(
                f"loss_gates cannot reach the gate {gate}: it ran without a graph, as under "
                "torch.no_grad() or reentrant activation checkpointing. Checkpoint with "
                "use_reentrant=False, or freeze the gate (requires_grad_(False))"
            )


def ends_in(gate: Gate, z: Tensor) -> tuple[Tensor, Tensor]:
    """z of the first and of the last path of each axis, (R, axes), from all (R, G)."""
    by_axis = z.unflatten(1, (gate.axes, -1))
    return by_axis[..., 0], by_axis[..., -1]


def gate_loss(logits: Mapping[Gate, Tensor], wanted: Tensor) -> Tensor:
    """Mean of softplus(∓2z) over gates, axes and both ends, of samples (N,) that want all or the
    least; z (R, G), R a multiple of N."""
    losses = []
    for gate, z in logits.items():
        sign = (1 - 2 * wanted.to(z)).repeat_interleave(len(z) // len(wanted))[:, None]
        first, last = ends_in(gate, z)
        losses.append((F.softplus(2 * sign * first) + F.softplus(-2 * sign * last)).mean() / 2)
    return torch.stack(losses).mean()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
