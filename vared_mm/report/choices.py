"""What a model's choices are, and what they are worth: more than others' or than one for all?

N samples. Shares, accuracies and what they differ by are in [0, 1], in texts percent. A policy is
which paths of all gates are open; an error is the standard error of a mean over the samples.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from typing_extensions import TypedDict

from vared_mm.report.policies import Policies, by_gate, rates
from vared_mm.report.record_types import AnyText, Count, Number

# Of the MACs, what is not the same for two policies.
LEAST_SAVED = 0.02
# Errors that a difference has to exceed to count.
ERRORS = 2


class Worth(TypedDict):
    """How much more is right with the own choices, paired over the samples."""

    mean: Number
    error: Number


class Judged(TypedDict):
    """What is right, the mean over the samples: with the own choices, with those of other samples
    (the mean of so many deals), and with the most frequent policy for all."""

    own: Number
    dealt: Number
    one_policy: Number
    deals: Count
    samples: Count
    over_dealt: Worth
    over_one_policy: Worth


class Choices(TypedDict):
    """Of a dynamic model.

    `first_four` is which part of the samples the most frequent four policies cover; `spearman` the
    correlation of share and loss, None where either is the same for all. `policy` is the most
    frequent one: the mean answer of each gate where it is chosen, 0 for closed paths, by the
    convolution that asks it; `policy_share` what it takes of the MACs.
    """

    share_std: Number
    share_quartiles: list[Number]
    policies: Count
    first_four: Number
    spearman: Number | None
    policy: dict[AnyText, list[Number]]
    policy_share: Number
    judged: Judged | None
    verdict: AnyText | None


def choices_of(
    share: np.ndarray, loss: np.ndarray, policies: Policies, policy_share: float
) -> Choices:
    """What is known without running the model with other choices than its own."""
    policy = by_gate(policies.names, policies.answers[0])
    return {
        "share_std": float(share.std()),
        "share_quartiles": np.quantile(share, (0.25, 0.5, 0.75)).tolist(),
        "policies": int(policies.chosen.max()) + 1,
        "first_four": float(rates(policies.chosen, 4).sum(1).mean()),
        "spearman": spearman(share, loss),
        "policy": {name: answers.tolist() for name, answers in policy.items()},
        "policy_share": policy_share,
        "judged": None,
        "verdict": None,
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of the pairs that are numbers."""
    ranks = pd.DataFrame({"a": a, "b": b}).dropna().rank()
    told = float(ranks["a"].corr(ranks["b"]))
    return told if math.isfinite(told) else None


def judge(own: np.ndarray, dealt: np.ndarray, one_policy: np.ndarray) -> Judged | None:
    """From how much of each sample is right, (N,), (deals, N) and (N,), NaN where nothing tells.

    None where fewer than two samples tell it.
    """
    told = ~np.isnan(own)
    if told.sum() < 2:
        return None
    own, others, one_policy = own[told], dealt[:, told], one_policy[told]
    return {
        "own": float(own.mean()),
        "dealt": float(others.mean()),
        "one_policy": float(one_policy.mean()),
        "deals": len(dealt),
        "samples": len(own),
        "over_dealt": worth((own - others).mean(0)),
        "over_one_policy": worth(own - one_policy),
    }


def worth(gains: np.ndarray) -> Worth:
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    return {"mean": float(gains.mean()), "error": float(error)}


def verdict(judged: Judged, freeze: str, share: float, policy_share: float) -> str:
    """In words.

    Args:
        freeze: The command that makes a network of the most frequent policy.
        share, policy_share: Of the MACs, what the choices take in the mean and what that policy
            does.
    """
    over_one, over_dealt = judged["over_one_policy"], judged["over_dealt"]
    told = f"{points(over_one)} points over one policy for all"
    told += f", {points(over_dealt)} over the choices of other samples"
    taken = (
        f"they take {100 * share:.0f} % in the mean and the most frequent policy "
        f"{100 * policy_share:.0f} %"
    )
    fair = f"A policy of as many MACs as theirs: {freeze} --same-macs"
    if over_one["mean"] > ERRORS * over_one["error"]:
        if share > policy_share + LEAST_SAVED:
            return f"The choices are worth {told}, for more MACs: {taken}. {fair}"
        return f"The choices are worth {told}."
    if policy_share > share + LEAST_SAVED:
        lose = over_one["mean"] < -ERRORS * over_one["error"]
        begins = "The choices pay for MACs in accuracy" if lose else "The choices save MACs"
        return (
            f"{begins}: {taken}. As far as {judged['samples']} samples tell, they are worth "
            f"{told}. {fair}"
        )
    return (
        f"One policy serves all clips as well: freeze it ({freeze}). As far as {judged['samples']} "
        f"samples tell, the choices are worth {told}."
    )


def points(worth: Worth) -> str:
    return f"{100 * worth['mean']:.1f} ± {100 * worth['error']:.1f}"


def lines(choices: Choices) -> dict[str, str]:
    """All but the verdict, as people read it."""
    low, middle, high = (f"{100 * share:.1f}" for share in choices["share_quartiles"])
    correlation = choices["spearman"]
    told = {
        "share, standard deviation (%)": f"{100 * choices['share_std']:.1f}",
        "share, quartiles (%)": f"{low}, {middle}, {high}",
        "policies": f"{choices['policies']}",
        "covered by the first four (%)": f"{100 * choices['first_four']:.1f}",
        "correlation of share and loss": "none" if correlation is None else f"{correlation:.2f}",
    }
    if judged := choices["judged"]:
        told |= {
            "right with own choices (%)": f"{100 * judged['own']:.1f}",
            f"right with others', {judged['deals']} deals (%)": f"{100 * judged['dealt']:.1f}",
            "right with one policy (%)": f"{100 * judged['one_policy']:.1f}",
            "share of that policy (%)": f"{100 * choices['policy_share']:.1f}",
        }
    return told
