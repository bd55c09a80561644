"""The policies of samples: which paths of all gates are open, and how often that is chosen.

N samples of up to V views (or other parts that a network decides for apart, as windows and frames),
P policies, K answers of all gates together, of one gate up to Q that open other paths. A sample's
gates are (passes, rows, G) of each, by the convolution that asks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Gates = Mapping[str, np.ndarray]
# Policies whose answers are kept.
KEPT = 20


@dataclass(frozen=True)
class Policies:
    """The most frequent policy is 0.

    Args:
        chosen: (N, V), -1 where a sample has fewer views.
        answers: (P, K) mean answers where it was chosen, of the first policies.
        names: (K,) the convolution that asks for it.
        gate_answers: (Q, K) mean answers of each gate by itself, for what it opens, of all samples.
        gate_counts: (Q, K) how many samples open that; 0 where a gate has fewer.

    The last two are None where they were not kept.
    """

    chosen: np.ndarray
    answers: np.ndarray
    names: np.ndarray
    gate_answers: np.ndarray | None = None
    gate_counts: np.ndarray | None = None

    def of_gates(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What each gate answers, (Q, G), and in how many samples, (Q,): a sample whose decisions
        differ counts for each by their part. What was not kept is taken from the first policies."""
        if self.gate_answers is None or self.gate_counts is None:
            often = rates(self.chosen, len(self.answers)).sum(0)
            return {
                name: (rows.T, often) for name, rows in by_gate(self.names, self.answers.T).items()
            }
        answers, counts = (
            by_gate(self.names, table.T) for table in (self.gate_answers, self.gate_counts)
        )
        return {
            name: (answers[name].T[often > 0], often[often > 0])
            for name, (often, *_) in counts.items()
        }

    def left_out(self) -> float:
        """The part of the samples that `of_gates` does not count."""
        if self.gate_answers is not None:
            return 0.0
        return 1 - float(rates(self.chosen, len(self.answers)).sum(1).mean())


def policies_of(samples: Sequence[Gates]) -> Policies:
    """Of equals that come first first."""
    tables = [views_of(gates) for gates in samples]
    table = np.concatenate(tables)
    patterns, first, place, counts = np.unique(
        np.packbits(table > 0, axis=1), axis=0,
        return_index=True, return_inverse=True, return_counts=True,
    )  # fmt: skip
    order = np.lexsort((first, -counts))
    number = np.empty(len(patterns), np.int64)
    number[order] = np.arange(len(order))
    own = number[place.reshape(-1)]
    views = np.array([len(one) for one in tables])
    chosen = np.full((len(tables), views.max()), -1)
    chosen[np.arange(views.max()) < views[:, None]] = own
    kept = range(min(len(patterns), KEPT))
    of_gates = [counted([gates[name] for gates in samples]) for name in samples[0]]
    return Policies(
        chosen=chosen,
        answers=np.stack([table[own == i].mean(0, dtype=np.float64) for i in kept]),
        names=np.array([k for k, g in samples[0].items() for _ in range(g.shape[-1])], np.str_),
        gate_answers=beside([answers for answers, _ in of_gates]),
        gate_counts=beside([np.repeat(n[:, None], a.shape[1], 1) for a, n in of_gates]),
    )


def counted(samples: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of one gate, by what it opens, its mean answer (Q, G), and in how many samples (Q,), the most
    frequent first."""
    rows = [answers.reshape(-1, answers.shape[-1]) for answers in samples]
    parts = np.concatenate([np.full(len(one), 1 / len(one)) for one in rows])
    table = np.concatenate(rows)
    codes = (table > 0) @ (1 << np.arange(table.shape[1]))
    _, place, decisions = np.unique(codes, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(place, column) / decisions for column in table.T], 1)
    often = np.bincount(place, parts)
    order = np.argsort(-often, kind="stable")
    return means[order], often[order]


def beside(tables: Sequence[np.ndarray]) -> np.ndarray:
    """One table of as many rows as the longest has; 0 below the others."""
    rows = max(map(len, tables))
    return np.concatenate([np.pad(one, ((0, rows - len(one)), (0, 0))) for one in tables], 1)


def views_of(gates: Gates) -> np.ndarray:
    """(V, K) of one sample. A gate that decided more often than another, as where frames are
    pooled on the way, is taken by the mean of what belongs together."""
    flat = [answers.reshape(-1, answers.shape[-1]) for answers in gates.values()]
    views = math.gcd(*map(len, flat))
    return np.concatenate([one.reshape(views, -1, one.shape[-1]).mean(1) for one in flat], 1)


def by_gate(names: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """Those of one policy, (K,), parted."""
    return {str(name): answers[names == name] for name in dict.fromkeys(names.tolist())}


def rates(chosen: np.ndarray, first: int) -> np.ndarray:
    """(N, first): in which part of its views each sample has each of the first policies."""
    counts = np.stack([(chosen == i).sum(1) for i in range(first)], 1)
    return counts / (chosen >= 0).sum(1, keepdims=True)


def dealt(samples: Sequence[Gates], seed: int) -> np.ndarray:
    """(N,): whose choices each sample gets, those of another one that has as many views.

    What has no like keeps its own.
    """
    chance = np.random.default_rng(seed)
    alike: dict[tuple, list[int]] = {}
    for i, gates in enumerate(samples):
        alike.setdefault(tuple(g.shape for g in gates.values()), []).append(i)
    dealer = np.empty(len(samples), np.int64)
    for places in alike.values():
        order = chance.permutation(places)
        dealer[order] = np.roll(order, 1)
    return dealer
