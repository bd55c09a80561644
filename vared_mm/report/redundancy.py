"""How alike the feature maps of a layer are (Table 12).

N clips, C channels, T frames, P = H x W pixels; a map is one channel of one frame. Every map is
scaled to [0, 1] by itself before it is compared, so RMSE, like CC, does not see brightness and
contrast. CC is Pearson's correlation coefficient, RMSE the root mean square error, both over the P
pixels of two maps. Of a constant map, all zeros once scaled, Pearson says nothing: here it has CC 1
with another constant one, which is a copy of it, and CC 0 with any other map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

RMSE_RULES: dict[str, Callable[[Tensor, float], Tensor | bool]] = {
    "above": torch.gt,
    "below": torch.lt,
    "off": lambda rmse, threshold: True,
}
# Bins and lower ends of the histograms: CC is told in bins of 0.025, RMSE in bins of 0.01.
BINS = {"cc": (80, -1), "rmse": (100, 0)}
# Floats of the largest matrix that the search for best matches makes: 64 MiB in float32.
ROOM = 2**24


@dataclass(frozen=True)
class Thresholds:
    """When two maps count as redundant.

    Args:
        cc: What their correlation has to be above.
        rmse: What their RMSE is held against.
        rmse_rule: "above", as the caption of Table 12 has it, "below", which a small error for
            like maps suggests, or "off": CC alone decides.
    """

    cc: float = 0.85
    rmse: float = 0.001
    rmse_rule: str = "above"

    def __post_init__(self) -> None:
        if not -1 <= self.cc <= 1:
            raise ValueError(f"cc is {self.cc!r}; wanted a correlation from -1 to 1")
        if not 0 <= self.rmse <= 1:
            raise ValueError(f"rmse is {self.rmse!r}; wanted an error of maps in [0, 1]")
        if self.rmse_rule not in RMSE_RULES:
            raise ValueError(f"rmse_rule is {self.rmse_rule!r}; wanted one of {list(RMSE_RULES)}")

    def redundant(self, cc: Tensor, rmse: Tensor) -> Tensor:
        return (cc > self.cc) & RMSE_RULES[self.rmse_rule](rmse, self.rmse)


def maps_of(output: Tensor, rows_are_frames: bool = False) -> Tensor:
    """A convolution's output as maps (N, T, C, P) in float32 or finer.

    Args:
        output: (N, C, T, H, W), or (rows, C, H, W) of a 2-D convolution.
        rows_are_frames: The rows are the frames of one clip; else each is an image by itself.
    """
    if output.ndim == 5:
        maps = output.movedim(1, 2)
    else:
        maps = output[None] if rows_are_frames else output[:, None]
    return maps.flatten(3).to(torch.promote_types(maps.dtype, torch.float32))


def scaled(maps: Tensor) -> Tensor:
    """Every map, along the last axis, from its least to its greatest value; constant ones are 0.

    What varies by no more than float32 rounds is constant.
    """
    low, high = maps.aminmax(dim=-1, keepdim=True)
    constant = high - low <= 1e-6 * torch.maximum(low.abs(), high.abs())
    return ((maps - low) / (high - low)).masked_fill(constant, 0)


def constant_maps(scaled_maps: Tensor) -> Tensor:
    return scaled_maps.amax(-1) == 0


def directions(scaled_maps: Tensor) -> Tensor:
    """Vectors (..., P + 1) whose inner products are the CC of the maps.

    The last component is 1 for constant maps alone, which are orthogonal to all others by it.
    """
    centred = scaled_maps - scaled_maps.mean(-1, keepdim=True)
    constant = constant_maps(scaled_maps)[..., None].to(centred)
    return torch.cat([F.normalize(centred, dim=-1), constant], -1)


def rmse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(-1).sqrt()


def neighbours(scaled_maps: Tensor) -> tuple[Tensor, Tensor]:
    """CC and RMSE (N, T - 1, C) of every channel's neighbouring frames; maps are (N, T, C, P)."""
    units = directions(scaled_maps)
    cc = (units[:, 1:] * units[:, :-1]).sum(-1).clamp(-1, 1)
    return cc, rmse(scaled_maps[:, 1:], scaled_maps[:, :-1])


def best_matches(scaled_maps: Tensor, room: int = ROOM) -> tuple[Tensor, Tensor]:
    """CC and RMSE (N, T, C) of every map with the one of its frame that correlates most with it.

    Of several that correlate alike, the first.

    Args:
        scaled_maps: (N, T, C, P). With one channel there are no pairs: the answers are empty.
        room: Correlations that are held at once.
    """
    n, t, c, p = scaled_maps.shape
    if c == 1:
        return (scaled_maps.new_empty(n, t, 0),) * 2
    units = directions(scaled_maps).flatten(0, 1)
    rows = max(1, room // (n * t * c))
    best = []
    for first in range(0, c, rows):
        of_rows = units[:, first : first + rows] @ units.mT
        # A map is no match of itself.
        of_rows.diagonal(first, 1, 2).fill_(-math.inf)
        best.append(of_rows.max(-1))
    cc, partner = (torch.cat(part, 1).unflatten(0, (n, t)) for part in zip(*best, strict=True))
    matched = scaled_maps.gather(2, partner[..., None].expand(n, t, c, p))
    return cc.clamp(-1, 1), rmse(scaled_maps, matched)


class Tally:
    """Sums and histograms of the pairs seen so far: as large after a million clips as at first."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds, self.pairs = thresholds, 0
        self.sums = dict.fromkeys(("cc", "rmse", "rp"), 0.0)
        self.histograms = {
            name: torch.zeros(bins, dtype=torch.float64) for name, (bins, _) in BINS.items()
        }

    def add(self, cc: Tensor, rmse: Tensor) -> None:
        self.pairs += cc.numel()
        seen = {"cc": cc, "rmse": rmse, "rp": self.thresholds.redundant(cc, rmse)}
        for name, values in seen.items():
            self.sums[name] += float(values.sum(dtype=torch.float64))
        for name, (bins, low) in BINS.items():
            self.histograms[name] += torch.histc(seen[name], bins, low, 1).cpu()

    def summary(self) -> dict[str, Any]:
        """Means over the pairs, None where there are none: one frame, or one channel."""
        means = {
            name: total / self.pairs if self.pairs else None for name, total in self.sums.items()
        }
        histograms = {name: counts.tolist() for name, counts in self.histograms.items()}
        return {"pairs": self.pairs, **means, "histograms": histograms}


class LayerTally:
    """What one layer's outputs say of both axes."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.time, self.channel = Tally(thresholds), Tally(thresholds)
        self.maps = self.constant = 0

    def add(self, maps: Tensor) -> None:
        """Takes in maps (N, T, C, P) as the layer gave them."""
        if not maps.isfinite().all():
            raise ValueError(
                "there are values that are not finite, which correlate with nothing; was the "
                "checkpoint's training a success, and does it fit the config?"
            )
        maps = scaled(maps)
        self.maps += maps[..., 0].numel()
        self.constant += int(constant_maps(maps).sum())
        self.time.add(*neighbours(maps))
        self.channel.add(*best_matches(maps))

    def summary(self) -> dict[str, Any]:
        constant = self.constant / self.maps if self.maps else None
        axes = {"time": self.time.summary(), "channel": self.channel.summary()}
        return {"maps": self.maps, "constant": constant, **axes}
