"""One policy for all samples that takes a wanted share of the MACs, by what they choose least."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from vared_mm.method.frozen import leaders_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.policies import Policies


def policy_of_share(
    model: nn.Module, policies: Policies, dense_macs: Mapping[str, float], least: float
) -> dict[str, dict[str, Tensor]]:
    """One open path on each axis of each gate, so that no less than the share `least` of the MACs
    is taken.

    From all on the first path, an axis steps to its next one where the fewest clips opened more, as
    long as the share allows it.

    Args:
        dense_macs: Of each plain convolution, by name.
    """
    convs = dynamic_convs(model)
    answers = policies.of_gates()
    axes = {name: len(convs[name].axes) for name in answers}
    # (axes, S, Q)
    parted = {
        name: rows.T.reshape(axes[name], -1, len(rows)) for name, (rows, _) in answers.items()
    }
    weights = {name: often for name, (_, often) in answers.items()}
    dense = dict.fromkeys(answers, 0.0)
    leaders = leaders_of(model)
    for layer, macs in dense_macs.items():
        dense[leaders[layer]] += macs
    taken = {(name, axis): 0 for name in answers for axis in range(axes[name])}

    def share() -> float:
        parts = {n: 0.5 ** sum(taken[n, axis] for axis in range(axes[n])) for n in answers}
        return sum(parts[n] * dense[n] for n in answers) / sum(dense.values())

    def losers(step: tuple[str, int]) -> float:
        """How many clips have an open path up to the one that is left."""
        name, axis = step
        return float(weights[name][(parted[name][axis, : taken[step] + 1] > 0).any(0)].sum())

    steps = set(taken)
    while steps:
        step = min(steps, key=lambda one: (losers(one), one))
        taken[step] += 1
        if taken[step] == parted[step[0]].shape[1] or share() < least:
            taken[step] -= 1
            steps.remove(step)
    gates = {}
    for name, rows in parted.items():
        values = torch.zeros(rows.shape[:2])
        for axis in range(axes[name]):
            path = rows[axis, taken[name, axis]]
            often = weights[name] * (path > 0)
            values[axis, taken[name, axis]] = np.average(path, weights=often) if often.any() else 1
        gates[name] = {"values": values.flatten()}
    return gates
