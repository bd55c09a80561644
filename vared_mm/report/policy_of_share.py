"""One policy for all samples that takes a wanted share of the MACs, by what they choose least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vared_mm.method.frozen import leaders_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.policies import Policies


def policy_of_share(
    model: nn.Module,
    policies: Policies,
    dense_macs: Mapping[str, float],
    frames: Mapping[str, int],
    least: float,
) -> tuple[dict[str, dict[str, Tensor]], float]:
    """One open path on each axis of each gate, so that no less than the share `least` of the MACs
    is taken; and the share that is.

    From all on the first path, an axis steps to its next one where the fewest clips opened more, as
    long as the share allows it.

    Args:
        dense_macs: Of each plain convolution, by name.
        frames: T of what it answers.
    """
    convs = dynamic_convs(model)
    answers = policies.of_gates()
    axes = {name: convs[name].axes for name in answers}
    # (axes, S, Q)
    parted = {
        name: rows.T.reshape(len(axes[name]), -1, len(rows)) for name, (rows, _) in answers.items()
    }
    weights = {name: often for name, (_, often) in answers.items()}
    leaders = leaders_of(model)
    taken = {(name, axis): 0 for name in answers for axis in range(len(axes[name]))}

    def share() -> float:
        return sum(
            macs * part_of(convs[name], path_of(leaders[name]), frames[name])
            for name, macs in dense_macs.items()
        ) / sum(dense_macs.values())

    def path_of(name: str) -> dict[str, int]:
        return {axis: taken[name, i] for i, axis in enumerate(axes[name])}

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
        for axis in range(len(axes[name])):
            path = rows[axis, taken[name, axis]]
            often = weights[name] * (path > 0)
            values[axis, taken[name, axis]] = np.average(path, weights=often) if often.any() else 1
        gates[name] = {"values": values.flatten()}
    return gates, share()


def part_of(conv: Any, path: Mapping[str, int], frames: int) -> float:
    """Of the MACs of a convolution, with one open path of each axis: what is really computed, where
    channels or frames cannot be divided."""
    channels = conv.widths[path.get("channel", 0)] / conv.out_channels
    return channels * -(-frames // conv.strides[path.get("time", 0)]) / frames
