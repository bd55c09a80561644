"""What the evaluated samples cost, as a metric beside the accuracy.

The unit is the MAC. A sample is one clip, of several views of a video their mean, or an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

KINDS = ("dense", "paper", "full")


@dataclass(frozen=True)
class SampleCost:
    """MACs of one data sample, all its views together.

    `names` are the L dynamic convolutions, `dense`, `paper` and `full` (L,) what they would cost
    plain, by the paper's formula, and what was really run; `static` is the rest of the network.
    `zeros` is the part of it that multiplies by weights that are zero, as a pruned network does:
    the formula leaves it out.
    `pixels` are those of an image as the network gets it, None for clips. `gates` are what decided
    it, (P, rows, G) of each, as `CostRecord.decisions` tells them. `frames` (L,) are those that
    each convolution answers with; former versions did not tell them.

    Pickled, as into what `tools/test.py --dump` writes, it is a dict of values that are read where
    there is no vared_mm.
    """

    names: list[str]
    dense: np.ndarray
    paper: np.ndarray
    full: np.ndarray
    static: float
    views: int
    pixels: int | None = None
    gates: dict[str, np.ndarray] = field(default_factory=dict)
    zeros: float = 0.0
    frames: list[int] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, float]:
        """MACs of the whole network by each kind."""
        sums = {kind: self.static + float(getattr(self, kind).sum()) for kind in KINDS}
        return {**sums, "paper": sums["paper"] - self.zeros}

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        arrays = {kind: getattr(self, kind).tolist() for kind in KINDS}
        return dict, ({**vars(self), **arrays},)

    def __deepcopy__(self, memo: dict[int, Any]) -> SampleCost:
        # Not by way of the pickled form.
        return self


def costs_of(results: Iterable[SampleCost | dict[str, Any]]) -> list[SampleCost]:
    """Those that came from other processes or a file are the dicts that were pickled."""
    return [
        SampleCost(**{**one, **{kind: np.array(one[kind], float) for kind in KINDS}})
        if isinstance(one, dict)
        else one
        for one in results
    ]


def aligned(costs: Sequence[SampleCost]) -> list[SampleCost]:
    """All with the same convolutions: one that a sample does without, as a head of masks where no
    box is found, costs nothing there."""
    names = list(dict.fromkeys(name for cost in costs for name in cost.names))
    frames = {n: t for cost in costs for n, t in zip(cost.names, cost.frames, strict=False)}
    told = [frames[name] for name in names if name in frames]
    return [
        cost if cost.names == names else replace(in_places(cost, names), names=names, frames=told)
        for cost in costs
    ]


def in_places(cost: SampleCost, names: Sequence[str]) -> SampleCost:
    tables = []
    for kind in KINDS:
        own = dict(zip(cost.names, getattr(cost, kind), strict=True))
        tables.append(np.array([own.get(name, 0.0) for name in names]))
    dense, paper, full = tables
    return replace(cost, dense=dense, paper=paper, full=full)


def share_of(paper: np.ndarray, dense: np.ndarray, of_nothing: float = 1.0) -> np.ndarray:
    """What runs nothing that could be left out computes all of it."""
    return np.divide(paper, dense, out=np.full_like(dense, of_nothing), where=dense > 0)


def together(costs: Sequence[SampleCost]) -> SampleCost:
    """That of a sample from those of its augmented views. Those of a video are more clips of it;
    those of an image are what it costs, as windows are, and `pixels` is the mean over them."""
    costs = aligned(costs)
    sizes = [cost.pixels for cost in costs if cost.pixels]
    gates = list(dict.fromkeys(name for cost in costs for name in cost.gates))
    return SampleCost(
        names=costs[0].names,
        frames=costs[0].frames,
        static=sum(cost.static for cost in costs),
        zeros=sum(cost.zeros for cost in costs),
        views=1 if sizes else sum(cost.views for cost in costs),
        pixels=round(sum(sizes) / len(sizes)) if sizes else None,
        gates={n: np.concatenate([c.gates[n] for c in costs if n in c.gates]) for n in gates},
        **{k: np.sum([getattr(c, k) for c in costs], axis=0) for k in ("dense", "paper", "full")},
    )


@METRICS.register_module()
class CostMetric(BaseMetric):
    """Share and GMACs of the evaluated samples: average, maximum and minimum.

    - `cost/share`: Σ paper / Σ dense over the dynamic convolutions.
    - `cost/dense_gmacs`, `cost/paper_gmacs`, `cost/full_gmacs`: the network, per clip or image.
      `paper_gmacs` are by formula: of a pruned network without the weights that are zero, which it
      computes all the same.
    - `cost/full_gmacs_per_megapixel`: of images, which may differ in size.

    Needs `dict(type='CostHook')` in `custom_hooks`, which observes the model. After an evaluation
    `summary` holds the same numbers and those of each layer.
    """

    default_prefix = "cost"
    needs_hook = "CostHook"
    summary: dict[str, Any] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if "mac_cost" not in sample:
                raise ValueError(
                    "CostMetric found a prediction without its cost; add dict(type='CostHook') "
                    "to custom_hooks, which counts in each model(..., mode='predict'). If it is "
                    "there, the model predicted past such a call, or code ran that was compiled "
                    "before"
                )
            self.results.append(sample["mac_cost"])

    def compute_metrics(self, results: list[SampleCost | dict[str, Any]]) -> dict[str, float]:
        self.summary = summarise(costs_of(results))
        metrics = {"dense_gmacs": self.summary["dense_gmacs"]}
        for name in ("share", "paper_gmacs", "full_gmacs", "full_gmacs_per_megapixel"):
            if spread := self.summary.get(name):
                metrics |= {name: spread["avg"], f"{name}_min": spread["min"]}
                metrics |= {f"{name}_max": spread["max"]}
        return metrics


def summarise(costs: Sequence[SampleCost]) -> dict[str, Any]:
    """Average, maximum and minimum over the samples; `layers` the same of each convolution, and its
    share over those that it ran for."""
    costs = aligned(costs)
    views = np.array([cost.views for cost in costs])
    per_clip = {k: np.stack([getattr(c, k) for c in costs]) / views[:, None] for k in KINDS}
    totals = [cost.totals for cost in costs]
    whole = {k: np.array([total[k] for total in totals]) / views / 1e9 for k in KINDS}
    dense, paper = per_clip["dense"], per_clip["paper"]
    share = share_of(paper.sum(1), dense.sum(1))
    ran = dense > 0
    per_megapixel = [
        1e6 * gmacs / cost.pixels
        for gmacs, cost in zip(whole["full"], costs, strict=True)
        if cost.pixels
    ]
    zeros = {"zero_gmacs": float((np.array([c.zeros for c in costs]) / views).mean() / 1e9)}
    by_size = {"full_gmacs_per_megapixel": spread(np.array(per_megapixel))} if per_megapixel else {}
    return {
        "samples": len(costs),
        "dense_gmacs": float(whole["dense"].mean()),
        "paper_gmacs": spread(whole["paper"]),
        "full_gmacs": spread(whole["full"]),
        "share": spread(share),
        **(zeros if any(cost.zeros for cost in costs) else {}),
        **by_size,
        "layers": [
            {
                "name": name,
                "dense_gmacs": float(dense[:, i].mean() / 1e9),
                "share": spread(paper[ran[:, i], i] / dense[ran[:, i], i]),
                "full_gmacs": spread(per_clip["full"][:, i] / 1e9),
            }
            for i, name in enumerate(costs[0].names)
        ],
    }


def spread(values: np.ndarray) -> dict[str, float]:
    return {"avg": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
