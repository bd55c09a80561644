"""A network at one policy, where what computes all takes up what the policy would have answered."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vared_mm.export.clips import Seen, network_of
from vared_mm.export.nearest_plain import fitted
from vared_mm.export.policy import Rows, of_convs
from vared_mm.export.snapshot import Forms, snapshot
from vared_mm.export.targets import Target
from vared_mm.fast.engines import Network
from vared_mm.method.observe import dynamic_convs, forced_gates


@dataclass(frozen=True)
class Snapshot:
    """A network of plain modules, and which layers in it stand at the policy's choice.

    Args:
        rows: The policy; None where all layers compute all.
    """

    network: Network
    rows: Rows | None
    kept: tuple[str, ...]


@torch.no_grad()
def snapshot_of(model: nn.Module, rows: Rows | None, slow: Collection[str], seen: Seen) -> Snapshot:
    """The policy `rows`, None for full, in all layers but `slow` ones.

    What computes all though the policy does not is fitted to what the policy answers, or where all
    layers do, to what the gates' own choices answer.
    """
    answers = {} if rows is None else of_convs(rows, model)
    kept = {name: row for name, row in answers.items() if name not in slow}
    fit = set(dynamic_convs(model)) - set(kept)
    with ExitStack() as stack:
        if kept:
            stack.enter_context(forced_gates(model, answers))
        fits = stack.enter_context(fitted(model, fit))
        for clip in seen.clips if fit else ():
            network_of(model)(clip)
    forms: Forms = {**kept, **{name: one.nearest() for name, one in fits.items()}}
    return Snapshot(plain_network(model, forms, seen), rows if kept else None, tuple(kept))


def plain_network(model: nn.Module, forms: Forms, seen: Seen) -> Network:
    return network_of(snapshot(model, forms, seen.sizes)).requires_grad_(False)


def write(target: Target, network: nn.Module, clip: Tensor, path: Path) -> Path:
    """For batches of any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A batch of one would be taken for the only one.
    target.write(network, clip.repeat(2, *[1] * (clip.ndim - 1)), path)
    return path
