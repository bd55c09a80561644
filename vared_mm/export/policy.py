"""Which policy is fixed: by how the clips chose, or as a file tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vared_mm.method.errors import DynamicError
from vared_mm.method.frozen import leaders_of
from vared_mm.method.observe import dynamic_convs, own_choices
from vared_mm.report.policies import Policies, by_gate, policies_of, views_of
from vared_mm.report.policy_of_share import policy_of_share

# The answers of each gate, by the convolution that asks it.
Rows = dict[str, list[float]]
# What the gates answered to each clip.
Gates = Sequence[Mapping[str, Tensor]]
# Of these, the MACs of the plain convolutions, and T of what they answer.
Choose = Callable[[Gates, Mapping[str, float], Mapping[str, int]], Rows | None]


def policy_named(name: str, model: nn.Module) -> Choose:
    """What tells, of clips, the policy that `--policy` names; None for full.

    Raises:
        ValueError: There is no such policy, or it is another model's.
    """
    if name == "full":
        return lambda gates, dense, frames: None
    refuse_no_gates(f"--policy is {name}", model)
    if name == "most-frequent":
        return lambda gates, dense, frames: most_frequent(counted(gates))[0]
    if name.startswith("share="):
        share = number(name)

        def of_share(gates: Gates, dense: Mapping[str, float], frames: Mapping[str, int]) -> Rows:
            policy, _ = policy_of_share(model, counted(gates), dense, frames, share)
            return {name: one["values"].tolist() for name, one in policy.items()}

        return of_share
    rows = from_file(name, model)
    return lambda gates, dense, frames: rows


def refuse_no_gates(wanted: str, model: nn.Module) -> None:
    """Raises `ValueError` where there are none, whereas `wanted` they are."""
    if not dynamic_convs(model):
        raise ValueError(
            f"{wanted} and the network has no gate: it is static, or VaRed is missing in its "
            "backbone's type; give --policy full, or the dynamic model's config"
        )


def counted(gates: Gates) -> Policies:
    return policies_of([{name: rows.numpy() for name, rows in one.items()} for one in gates])


def most_frequent(policies: Policies) -> list[Rows]:
    """The first policies, each gate with its mean answer over the clips that chose it."""
    parted = (by_gate(policies.names, answers) for answers in policies.answers)
    return [{name: row.tolist() for name, row in policy.items()} for policy in parted]


def number(name: str) -> float:
    try:
        share = float(name.removeprefix("share="))
    except ValueError:
        share = np.nan
    if not 0 < share <= 1:
        raise ValueError(f"--policy is {name}; wanted a share of the MACs up to 1, like share=0.5")
    return share


def from_file(name: str, model: nn.Module) -> Rows:
    """What tools/export.py or tools/evaluate.py wrote: `policy`, by itself or among `choices`."""
    path = Path(name, "result.json") if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise ValueError(
            f"--policy is {name}; wanted full, most-frequent, share=0.5, or a file with a policy, "
            "as vared-mm export and vared-mm evaluate write"
        )
    try:
        content: Any = json.loads(path.read_text())
        policy: Any = content.get("policy") or (content.get("choices") or {}).get("policy")
        rows = {str(k): [float(v) for v in row] for k, row in policy.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} holds no policy; wanted JSON with the answers of each gate by its "
            'convolution, as {"policy": {"backbone.conv1": [0, 0.5, 1, 0]}}'
        ) from error
    check_rows(rows, model)
    return rows


def check_rows(rows: Rows, model: nn.Module) -> None:
    convs, asking = dynamic_convs(model), set(leaders_of(model).values())
    if set(rows) != asking:
        raise ValueError(
            f"the policy is of {len(rows)} gates, as that of {next(iter(rows), None)}, and the "
            f"model has {len(asking)}, as that of {next(iter(sorted(asking)), None)}; give the "
            "policy of this config and checkpoint"
        )
    for name, row in rows.items():
        wanted = len(convs[name].axes) * convs[name].dynamic.search_space
        if len(row) != wanted:
            raise ValueError(f"the policy has {len(row)} answers of {name}; wanted {wanted}")
        try:
            own_choices(name, convs[name], row)
        except DynamicError as error:
            raise ValueError(str(error)) from error


def of_convs(rows: Rows, model: nn.Module) -> Rows:
    """For every convolution, what its gate or that of its block answers."""
    return {name: rows[leader] for name, leader in leaders_of(model).items()}


def nearest(policies: Sequence[Rows], gates: Gates) -> tuple[np.ndarray, np.ndarray]:
    """Which of the policies has most paths as each clip opens them by itself, (clips,), of equals
    the first; and whether it has all of them so, (clips,)."""
    names = list(policies[0])
    opened = np.array([np.concatenate([rows[n] for n in names]) > 0 for rows in policies])
    own = np.array([views_of({n: one[n].numpy() for n in names}).mean(0) > 0 for one in gates])
    apart = (own[:, None] != opened).sum(-1)
    return apart.argmin(1), apart.min(1) == 0


def covered(policies: Sequence[Rows], gates: Gates) -> float:
    """Which part of the clips chooses one of the policies by itself."""
    return float(nearest(policies, gates)[1].mean())
