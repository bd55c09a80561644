"""How alike the feature maps of a layer are (Table 12).

N clips, C channels, T frames, P = H x W pixels; a map is one channel of one frame. Every map is
scaled to [0, 1] by itself before it is compared, so RMSE, like CC, does not see brightness and
contrast. CC is Pearson's correlation coefficient, RMSE the root mean square error, both over the P
pixels of two maps. Of a constant map, all zeros once scaled, Pearson says nothing: here it has CC 1
with another constant one, which is a copy of it, and CC 0 with any other map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

RMSE_RULES = ("above", "below", "off")
# CC is told in bins of 0.025, RMSE in bins of 0.01.
CC_BINS, RMSE_BINS = 80, 100
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
            raise ValueError(f"rmse_rule is {self.rmse_rule!r}; wanted one of {RMSE_RULES}")

    def redundant(self, cc: Tensor, rmse: Tensor) -> Tensor:
        alike = cc > self.cc
        if self.rmse_rule == "off":
            return alike
        return alike & (rmse > self.rmse if self.rmse_rule == "above" else rmse < self.rmse)


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
    parts = [_best_of(units, first, rows) for first in range(0, c, rows)]
    cc, partner = (torch.cat(part, 1).unflatten(0, (n, t)) for part in zip(*parts, strict=True))
    matched = scaled_maps.gather(2, partner[..., None].expand(n, t, c, p))
    return cc.clamp(-1, 1), rmse(scaled_maps, matched)


def _best_of(units: Tensor, first: int, rows: int) -> tuple[Tensor, Tensor]:
    """For `rows` maps from `first` on: the highest CC with another map, and which map that is."""
    cc = units[:, first : first + rows] @ units.mT
    # A map is no match of itself.
    cc.diagonal(first, 1, 2).fill_(-math.inf)
    return cc.max(-1)


@dataclass
class Tally:
    """Sums and histograms of the pairs seen so far: as large after a million clips as at first."""

    thresholds: Thresholds
    pairs: int = 0
    redundant: int = 0
    cc: float = 0.0
    rmse: float = 0.0
    cc_histogram: Tensor = field(default_factory=lambda: torch.zeros(CC_BINS, dtype=torch.float64))
    rmse_histogram: Tensor = field(
        default_factory=lambda: torch.zeros(RMSE_BINS, dtype=torch.float64)
    )

    def add(self, cc: Tensor, rmse: Tensor) -> None:
        self.pairs += cc.numel()
        self.redundant += int(self.thresholds.redundant(cc, rmse).sum())
        self.cc += float(cc.sum(dtype=torch.float64))
        self.rmse += float(rmse.sum(dtype=torch.float64))
        self.cc_histogram += torch.histc(cc, CC_BINS, -1, 1).cpu()
        self.rmse_histogram += torch.histc(rmse, RMSE_BINS, 0, 1).cpu()

    def summary(self) -> dict[str, Any]:
        """Means over the pairs, None where there are none: one frame, or one channel."""
        counts = {"cc": self.cc, "rmse": self.rmse, "rp": self.redundant}
        means = {name: count / self.pairs if self.pairs else None for name, count in counts.items()}
        histograms = {"cc": self.cc_histogram.tolist(), "rmse": self.rmse_histogram.tolist()}
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
