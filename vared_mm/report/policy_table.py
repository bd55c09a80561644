"""The most frequent policies of a model: how often each is chosen, for what, and how well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vared_mm.report.policies import rates
from vared_mm.report.result import Samples
from vared_mm.report.sample_groups import groups_of

# Classes that are named of each policy.
NAMED = 3


def policy_table(samples: Samples, classes: Sequence[str] | None) -> pd.DataFrame | None:
    """A row for each of those whose answers are kept, the most frequent first. A sample whose views
    differ counts for each policy by their part. None where policies were not told."""
    if (policies := samples.policies) is None or samples.loss is None:
        return None
    values = {"share %": 100 * samples.share, "right %": 100 * samples.correct}
    values["loss"] = samples.loss
    parts = rates(policies.chosen, len(policies.answers))
    rows = [
        {"policy": str(i), "samples": part.sum()}
        | {name: mean(told, part) for name, told in values.items()}
        | {"classes": classes_of(samples.label, part, classes)}
        for i, part in enumerate(parts.T, 1)
    ]
    return pd.DataFrame(rows)


def mean(values: np.ndarray, weights: np.ndarray) -> float:
    """NaN is not counted, and comes where nothing else is."""
    told = np.isfinite(values) & (weights > 0)
    return float(np.average(values[told], weights=weights[told])) if told.any() else np.nan


def classes_of(labels: np.ndarray, weights: np.ndarray, classes: Sequence[str] | None) -> str:
    """With how many samples each, the most frequent first; nothing where no sample has a label."""
    if (labels < 0).all():
        return ""
    counts = {group.name: weights[group.places].sum() for group in groups_of(labels, classes)}
    own = sorted(((n, name) for name, n in counts.items() if n), key=lambda pair: -pair[0])
    told = [f"{name} {count:.4g}" for count, name in own[:NAMED]]
    return ", ".join([*told, *([f"{len(own) - NAMED} more"] if len(own) > NAMED else [])])
