"""Backbones for square frames of several sizes: what they make of a frame, and what it costs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.method.flop_counter import FlopCounter
from vared_mm.method.observe import gated_convs
from vared_mm.models.localization.yowo import last_map


def features_at(net: nn.Module, frames: Tensor, size: int) -> Tensor:
    """(R, C, H, W) to (R, C'): the mean over the map that the backbone makes at a size."""
    if frames.shape[-1] != size:
        frames = F.interpolate(
            frames, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    return last_map(net(frames)).mean((2, 3))


def channels_and_macs(net: nn.Module, size: int) -> tuple[int, int]:
    """C' and the MACs of one frame of three channels; nothing is computed."""
    if name := next(iter(gated_convs(net)), None):
        raise ValueError(
            f"{name} of a {type(net).__name__} has a gate: the cost of ARNet's actions is that of "
            "static backbones. Take the backbone without the prefix VaRed or CGNet"
        )
    twin = copy.deepcopy(net).to("meta")
    twin.eval()  # MMAction2's ResNet returns nothing from it
    with torch.no_grad(), FlopCounter() as counter:
        frames = torch.empty(1, 3, size, size, device="meta")
        try:
            features = features_at(twin, frames, size)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"ARNet's backbones take frames {tuple(frames.shape)}, and give a map each; "
                f"{type(net).__name__} does not ({' '.join(str(error).split())[:200]}). "
                "Take a 2-D one"
            ) from error
    return features.shape[1], counter.get_total_flops() // 2


def check_actions(sizes: Sequence[int], skips: Sequence[int], larger: int) -> None:
    """Refuses what a policy cannot choose from."""
    if any(type(n) is not int or n < 1 for n in (*sizes, *skips)) or len({*skips}) < len(skips):
        raise ValueError(
            f"sizes={tuple(sizes)!r} are pixels and skips={tuple(skips)!r} frames, each another "
            "number; wanted whole numbers from 1 up"
        )
    if len(sizes) < 2 or any(a <= b for a, b in pairwise(sizes)):
        raise ValueError(
            f"sizes={tuple(sizes)!r}; wanted two or more, from the largest down, as (224, 112, 84)"
        )
    if larger != len(sizes) - 1:
        raise ValueError(
            f"{larger} backbones came for the sizes {tuple(sizes)!r}; wanted {len(sizes) - 1}, one "
            "for each but the last, which is the policy's"
        )
