"""One policy for all samples that takes a wanted share of the MACs, by what they choose least."""

from __future__ import annotations

from collections import defaultdict
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
    convs, leaders = dynamic_convs(model), leaders_of(model)
    # Of each axis of each gate what it answers, (S, Q), and in how many clips, (Q,).
    answers: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    for name, (rows, often) in policies.of_gates().items():
        axes = convs[name].axes
        parts = rows.T.reshape(len(axes), -1, len(rows))
        answers |= {(name, axis): (part, often) for axis, part in zip(axes, parts, strict=True)}
    taken = dict.fromkeys(answers, 0)

    def share() -> float:
        total = 0.0
        for name, macs in dense_macs.items():
            path = {axis: taken[leaders[name], axis] for axis in convs[name].axes}
            total += macs * part_of(convs[name], path, frames[name])
        return total / sum(dense_macs.values())

    def losers(step: tuple[str, str]) -> float:
        """How many clips have an open path up to the one that is left."""
        paths, often = answers[step]
        return float(often[(paths[: taken[step] + 1] > 0).any(0)].sum())

    steps = set(taken)
    while steps:
        step = min(steps, key=lambda one: (losers(one), one))
        taken[step] += 1
        if taken[step] == len(answers[step][0]) or share() < least:
            taken[step] -= 1
            steps.remove(step)
    values: dict[str, list[Tensor]] = defaultdict(list)
    for (name, axis), (paths, often) in answers.items():
        path, own = paths[taken[name, axis]], torch.zeros(len(paths))
        often = often * (path > 0)
        # Of numbers that are divided by their sum, one alone is 1.
        is_one = convs[name].dynamic.normalised or not often.any()
        own[taken[name, axis]] = 1 if is_one else np.average(path, weights=often)
        values[name].append(own)
    return {name: {"values": torch.cat(own)} for name, own in values.items()}, share()


def part_of(conv: Any, path: Mapping[str, int], frames: int) -> float:
    """Of the MACs of a convolution, with one open path of each axis: what is really computed, where
    channels or frames cannot be divided."""
    channels = conv.widths[path.get("channel", 0)] / conv.out_channels
    return channels * -(-frames // conv.strides[path.get("time", 0)]) / frames
