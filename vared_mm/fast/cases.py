"""What the gates are told in a benchmark, and the share of the MACs that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor, nn

from vared_mm.fast.engines import Network
from vared_mm.fast.forced_shares import Plan, choices_of, everything_open, forced, plan_for
from vared_mm.method.flop_counter import counted_macs
from vared_mm.method.observe import dynamic_convs, gated_convs, record_cost

# Average GMACs by those of the dense network, of the paper's tables.
PAPER_SHARES = {"R2Plus1d18": 0.73, "InceptionI3d": 0.47, "X3D": 0.81}


@dataclass(frozen=True)
class Case:
    """What the gates are told; without a plan they decide."""

    name: str
    plan: Plan | None
    share: float  # of the whole network's MACs, as reached


def cases_of(model: nn.Module, inputs: Tensor, shares: Sequence[str]) -> list[Case]:
    """What the gates are told, and the share of MACs that comes of it; none in a static network.

    Those of a rival, which decide for every position, are never told.
    """
    if not gated_convs(model):
        return []
    batch, total = len(inputs), network_macs(model, inputs[:1])
    plans: dict[str, Plan | None] = {}
    if dynamic_convs(model):
        choices = choices_of(model, lambda: Network(model)(inputs[:1]))
    else:
        shares = ["data"]
    for name in shares:
        if name == "data":
            plans["as the data wants"] = None
        elif name == "all":
            plans["all open"] = placed(everything_open(choices, batch), inputs)
        else:
            share = share_named(name, model)
            for kind in ("alike", "different") if batch > 1 and share > 0 else ("alike",):
                plan = plan_for(choices, total, share, batch, kind == "alike")
                plans[f"{name}, {kind}"] = placed(plan, inputs)
    return [Case(name, plan, reached(model, inputs, plan, total)) for name, plan in plans.items()]


def check_shares(model: nn.Module, shares: Sequence[str]) -> None:
    """Raises `ValueError` where one is none, or nothing tells it of this model."""
    for name in shares if dynamic_convs(model) else ():
        if name not in ("data", "all"):
            share_named(name, model)


def placed(plan: Plan, inputs: Tensor) -> Plan:
    """Where the network is: the host would wait for each answer that it has to send there."""
    return {name: answers.to(inputs.device) for name, answers in plan.items()}


def network_macs(model: nn.Module, inputs: Tensor) -> float:
    """MACs of the whole network with plain convolutions."""
    with record_cost(model) as record:
        total = counted_macs(Network(model), inputs)
    costs = record.per_layer(1)
    return total + float((costs["dense"] - costs["full"]).sum())


def share_named(name: str, model: nn.Module) -> float:
    """A number, the least there is (as 0), or the paper's average for this backbone."""
    if name == "min":
        return 0.0
    if name != "paper":
        with suppress(ValueError):
            if 0 <= (share := float(name)) <= 1:
                return share
        raise ValueError(
            f"--share knows paper, min, all, data and numbers like 0.6, up to 1; came {name!r}"
        )
    if (kind := backbone_of(model)) not in PAPER_SHARES:
        raise ValueError(
            f"the paper tells no share for {kind}, only for {sorted(PAPER_SHARES)}; give a number, "
            "as --share 0.6"
        )
    return PAPER_SHARES[kind]


def usual_shares(model: nn.Module) -> tuple[str, ...]:
    """Where none are asked for: the paper's too, if it tells one."""
    return ("paper", "min", "all") if backbone_of(model) in PAPER_SHARES else ("min", "all")


def backbone_of(model: nn.Module) -> str:
    return type(getattr(model, "backbone", model)).__name__


def reached(model: nn.Module, inputs: Tensor, plan: Plan | None, total: float) -> float:
    """The average share of the network's MACs, by the paper's formula."""
    with forced(model) as follow, record_cost(model) as record:
        follow(plan)
        Network(model)(inputs)
    costs = record.per_layer(len(inputs))
    saved = (costs["dense"] - costs["paper"]).sum(1).mean()
    return 1 - float(saved) / total
