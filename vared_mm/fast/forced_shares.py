"""Gates that answer as planned, so that a network computes a wanted share of its MACs.

A plan holds an answer (N, G) for every dynamic convolution, by name. Shares are in [0, 1], of the
MACs of the whole network.
"""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from vared_mm.method.cost import Pass, conv_costs
from vared_mm.method.gate import FollowerGate, Gate, HandsOn
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import Look, dynamic_convs, record_cost

Plan = dict[str, Tensor]
# What an open gate answers: neither 1, which would hide a multiplication left out, nor the floor.
OPEN = 0.7


@dataclass
class Choice:
    """Convolutions that decide together, what each of their choices computes for one clip, and
    how many rows, frames or views, of their answer belong to it.
    """

    names: list[str]
    rows: int
    dense: float
    macs: dict[tuple[float, ...], float]


@contextmanager
def forced(model: nn.Module) -> Iterator[Callable[[Plan | None], None]]:
    """Hands out what sets the plan; with None, as at the start, the gates decide. It acts on the
    passes of the thread that it is entered in.

    A gate computes its own answer all the same; what is forced on a block's is handed on to its
    followers, whose plans are the same. A convolution may be called with parts of the batch, in
    order: each takes the rows after those of the one before.
    """
    plan: Plan | None = None
    taken: dict[str, int] = defaultdict(int)

    def follow(new: Plan | None) -> None:
        nonlocal plan
        plan = new
        taken.clear()

    def force(name: str, module: nn.Module, args: tuple, answer: Tensor) -> Tensor:
        if plan is None:
            return answer
        forced, part = plan[name], answer.shape[0]
        # Not `len`, and no slice of all: the hook is timed with the network.
        if part != forced.shape[0]:
            start = taken[name]
            taken[name] = (start + part) % forced.shape[0]
            forced = forced[start : start + part]
        forced = forced.to(answer)
        if isinstance(module, HandsOn):
            module.hand_on(forced)
        return forced

    with ExitStack() as stack:
        for name, conv in dynamic_convs(model).items():
            if not isinstance(conv.gate, FollowerGate):
                stack.callback(Look(conv.gate, partial(force, name), prepend=True).remove)
        yield follow


def choices_of(model: nn.Module, run: Callable[[], object]) -> list[Choice]:
    """What can be chosen for one clip, when `run` runs the model on one."""
    with record_cost(model) as record, torch.no_grad():
        run()
    together: dict[int, list] = defaultdict(list)
    for name, conv, _, shape in record.seen:
        gate = conv.gate.leader if isinstance(conv.gate, FollowerGate) else conv.gate
        together[id(gate)].append((name, conv, shape))
    return [_choice(members) for members in together.values()]


def _choice(members: list[tuple[str, _Dynamic, tuple[int, ...]]]) -> Choice:
    macs: dict[tuple[float, ...], float] = defaultdict(float)
    dense = 0.0
    for name, conv, shape in members:
        answers = single_paths(conv)
        gates = [torch.tensor([answer]).expand(shape[0], -1) for answer in answers]
        costs = conv_costs([Pass(name, conv, gate, shape) for gate in gates])
        for answer, cost in zip(answers, costs, strict=True):
            macs[answer] += float(cost.share.sum()) * cost.dense
        dense += costs[0].dense * shape[0]
    names = list(dict.fromkeys(name for name, *_ in members))
    return Choice(names, members[0][2][0], dense, dict(macs))


def single_paths(conv: _Dynamic) -> list[tuple[float, ...]]:
    """Answers that open one path of each axis, the largest first."""
    space = conv.dynamic.search_space
    axis = [tuple(OPEN * (i == j) for j in range(space)) for i in range(space)]
    return [sum(parts, ()) for parts in product(axis, repeat=len(conv.axes))]


def plan_for(
    choices: Sequence[Choice], total: float, share: float, samples: int, alike: bool
) -> Plan:
    """One path of each axis open, so that every clip computes about `share` of `total` MACs.

    Alike, all samples choose the same; else each its own way to about the same share.
    """
    rows = [
        _one_sample(choices, total, share, random.Random(0 if alike else i)) for i in range(samples)
    ]
    return {
        name: torch.tensor([row[name] for row in rows]).repeat_interleave(choice.rows, 0)
        for choice in choices
        for name in choice.names
    }


def _one_sample(
    choices: Sequence[Choice], total: float, share: float, chance: random.Random
) -> dict[str, tuple[float, ...]]:
    dense = sum(choice.dense for choice in choices)
    wanted = (share * total - (total - dense)) / dense
    row: dict[str, tuple[float, ...]] = {}
    done = spent = 0.0
    # Large ones first, so that the small ones even out what is left over.
    for choice in sorted(choices, key=lambda c: -c.dense * chance.uniform(0.5, 1.5)):
        done += choice.dense
        answers = list(choice.macs.items())
        chance.shuffle(answers)
        best, macs = min(answers, key=lambda item: abs(spent + item[1] - wanted * done))
        spent += macs
        row.update(dict.fromkeys(choice.names, best))
    return row


def everything_open(choices: Sequence[Choice], samples: int) -> Plan:
    return {
        name: torch.full((samples * choice.rows, len(next(iter(choice.macs)))), OPEN)
        for choice in choices
        for name in choice.names
    }


@torch.no_grad()
def answering(model: nn.Module, plan: Plan | None) -> nn.Module | None:
    """A copy whose gates compute the plan's answer, by β alone, if it is the same for all samples;
    None where they cannot."""
    if plan is None or not all(torch.equal(v, v[:1].expand_as(v)) for v in plan.values()):
        return None
    model = copy.deepcopy(model)
    for name, conv in dynamic_convs(model).items():
        gate, answer = conv.gate, plan[name][0]
        if isinstance(gate, Gate) and not gate.normalised:
            gate.weight2.zero_()
            gate.beta.copy_(torch.where(answer > 0, answer.atanh(), -1.0))
        elif not isinstance(gate, FollowerGate):
            return None
    return model


def sample_of_plan(plan: Plan, sample: int, samples: int) -> Plan:
    """What the plan of `samples` says of one of them."""
    return {name: answers.chunk(samples)[sample] for name, answers in plan.items()}
