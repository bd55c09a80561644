"""Gates are taught what each sample needs, measured with policies that are forced on the network.

The efficiency loss learns from the gradient of the loss by the width of an open path, which does
not tell what it would cost to close it. Here that is measured.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
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
from vared_mm.engine.correctness import CORRECT, Judge, judged_loss
from vared_mm.method.errors import NoMatchingModuleError
from vared_mm.method.gate import Gate
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import Look, dynamic_convs, forced_gates, record_cost

Policy = tuple[float, ...]


@HOOKS.register_module()
class TeachGatesHook(Hook):
    """Adds `loss_gates`, and `loss_distil`, and logs `mac_share` and `taught_share`.

    A policy p opens one path on each axis, the same for all gates. In every `interval`-th
    iteration the batch passes under each of the S^axes policies, in evaluation and without
    gradients. With ℓ_i(p) the loss of sample i and c(p) the share of MACs, it should take

        p_i = argmin_p ( ℓ_i(p) + μ · c(p) ),

    with the μ for which the mean of c(p_i) over the last `window` such batches is `target`. With z
    what a gate answers before tanh,

        loss_gates = weight · mean over gates and paths of softplus( ∓2z ),   - where p_i opens it,
        loss_distil = distil · KL( what the model answers with all open ‖ what it answers ).

    In a part of the other iterations a policy is drawn and forced, so that the weights learn to
    serve all.

    Args:
        target: Mean share of MACs of the dynamic convolutions, in (0, 1].
        weight, distil: Of the two losses, 0 or more.
        correct: Whose loss it is, by the name of the judge.
        interval: Iterations from one measurement to the next. One takes about as long as a step of
            training where S is 2.
        explore: Part of the iterations in which a policy is drawn, in [0, 1].
        window: Batches.
    """

    def __init__(
        self,
        target: float = 0.5,
        weight: float = 0.5,
        distil: float = 1.0,
        correct: str = "top1",
        interval: int = 2,
        explore: float = 0.3,
        window: int = 24,
    ) -> None:
        if not 0 < target <= 1:
            raise ValueError(f"target is {target!r}; wanted a share above 0, up to 1")
        if weight < 0 or distil < 0:
            raise ValueError(f"weight={weight!r}, distil={distil!r}; wanted 0 or more")
        if not 0 <= explore <= 1:
            raise ValueError(f"explore is {explore!r}; wanted a part of the training, from 0 to 1")
        if interval < 1 or window < 1:
            raise ValueError(f"interval={interval!r}, window={window!r}; wanted 1 or more")
        if correct not in CORRECT:
            raise ValueError(f"correct is {correct!r}; wanted one of {sorted(CORRECT)}")
        self.target, self.weight, self.distil, self.correct = target, weight, distil, correct
        self.interval, self.explore = interval, explore
        self.measured: deque[Tensor] = deque(maxlen=window)
        self._watching: Watching | None = None

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        convs = dynamic_convs(model)
        if not convs:
            raise NoMatchingModuleError(
                f"TeachGatesHook: {type(model).__name__} has no dynamic convolution; use a VaRed "
                "backbone or leave the hook out of custom_hooks"
            )
        policies = policies_of(list(convs.values()))
        judge = CORRECT[self.correct](model)
        draw = random.Random(runner.seed)

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            batches, taught = batches_of(arguments), None
            if runner.iter % self.interval == 0:
                taught = self.measure(model, judge, policies, arguments, batches)
            elif draw.random() < self.explore * self.interval / max(self.interval - 1, 1):
                stack.enter_context(forced_gates(model, draw.choice(policies)))
            logits: list[Tensor] = []
            answers: list[Any] = []
            for conv in convs.values():
                if isinstance(conv.gate, Gate):
                    stack.callback(Look(conv.gate.logits, kept(logits)).remove)
            if judge.reads is not None:
                stack.callback(Look(judge.reads, kept(answers)).remove)
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                share = record.share(sum(map(len, batches))).detach().mean()
                more = {"mac_share": share}
                if taught is not None:
                    chosen, shares, full = taught
                    more["taught_share"] = shares[chosen].mean()
                    more["loss_gates"] = self.weight * gate_loss(logits, policies, chosen)
                    if self.distil and full:
                        pairs = zip(answers, full, strict=True)
                        apart = torch.stack([divergence(*pair) for pair in pairs])
                        more["loss_distil"] = self.distil * apart.mean()
                return {**losses, **more}

            return finish

        self._end()
        self._watching = around_steps(runner, "loss", watch)

    def measure(
        self,
        model: nn.Module,
        judge: Judge,
        policies: Sequence[Policy],
        arguments: dict[str, Any],
        batches: list[list[Any]],
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Each sample's policy (N,), the policies' shares, and what was answered with the first,
        which opens all."""
        losses, shares, answered = [], [], []
        with evaluating(model), torch.no_grad():
            for policy in policies:
                answers: list[Any] = []
                with ExitStack() as stack:
                    stack.enter_context(forced_gates(model, policy))
                    record = stack.enter_context(record_cost(model))
                    if judge.reads is not None:
                        stack.callback(Look(judge.reads, kept(answers)).remove)
                    # Past the hooks, as this is called in one.
                    model.forward(**arguments)
                losses.append(judged_loss(judge, answers, batches))
                shares.append(record.share(sum(map(len, batches))).mean())
                answered.append(answers)
        table, share = torch.stack(losses, 1), torch.stack(shares)
        self.measured.append(table)
        price = price_for(torch.cat([*self.measured]), share, self.target)
        return (table + price * share).argmin(1), share, answered[0]

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        if self._watching:
            self._watching.refuse_unseen(type(self).__name__)

    def after_train(self, runner: Runner) -> None:
        self._end()

    def _end(self) -> None:
        if self._watching:
            self._watching()
        self._watching = None


def policies_of(convs: Sequence[_Dynamic]) -> list[Policy]:
    """One open path on each axis, in all ways; the first computes everything, the last least.

    Raises:
        ValueError: The convolutions have not the same axes and choices.
    """
    kinds = {(conv.axes, conv.dynamic.search_space) for conv in convs}
    if len(kinds) > 1:
        raise ValueError(
            f"one policy is forced on all gates, and they have {sorted(kinds)}; wanted "
            "convolutions with the same axes and search_space"
        )
    axes, space = kinds.pop()
    single = [tuple(float(i == k) for i in range(space)) for k in range(space)]
    return [sum(rows, ()) for rows in itertools.product(single, repeat=len(axes))]


def price_for(losses: Tensor, shares: Tensor, target: float) -> Tensor:
    """μ, the least price of a MAC at which samples that take their cheapest policy use no more than
    `target` in the mean, by bisection; samples' losses (N, P), policies' shares (P,)."""
    low, high = shares.new_zeros(()), shares.new_tensor(1e-3)

    def used(price: Tensor) -> Tensor:
        return shares[(losses + price * shares).argmin(1)].mean()

    while used(high) > target and high < 1e9:
        high = high * 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if used(middle) > target else (low, middle)
    return high


def gate_loss(logits: Sequence[Tensor], policies: Sequence[Policy], chosen: Tensor) -> Tensor:
    """The mean of softplus(∓2z) over gates and paths; gates' z (R, G), R a multiple of N samples,
    and each sample's policy (N,)."""
    losses = []
    for z in logits:
        wanted = z.new_tensor(policies)[chosen].repeat_interleave(len(z) // len(chosen), 0)
        losses.append(F.softplus((1 - 2 * wanted) * 2 * z).mean())
    return torch.stack(losses).mean()


def divergence(answer: Tensor, full: Tensor) -> Tensor:
    """KL(full ‖ answer) of scores (N, classes, ...), mean over all else."""
    ours, theirs = (v.float().log_softmax(1) for v in (answer, full))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean()


def kept(answers: list[Any]) -> Any:
    def keep(module: nn.Module, args: tuple, answer: Any) -> None:
        answers.append(answer)

    return keep


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
