"""`with_cp=True` recomputes a block in the backward pass, by torch's reentrant variant.

The toolboxes call `cp.checkpoint(function, x)` without saying which variant. torch then warns and
takes the reentrant one, which runs the block's forward pass without a graph: whatever is read
inside the block (a gate, and the efficiency loss on it) has no gradient. torch recommends the
other variant, `use_reentrant=False`, which keeps the graph.

Only the toolboxes' own references are exchanged; every other caller of `torch.utils.checkpoint`
keeps what torch does.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType

import torch.utils.checkpoint as torch_checkpoint

from .after_import import after_import
from .cure import Cure

TOOLBOXES = ("mmengine", "mmcv", "mmaction", "mmseg", "mmdet")

_checkpoint = partial(torch_checkpoint.checkpoint, use_reentrant=False)


class _NonReentrant(ModuleType):
    """`torch.utils.checkpoint` as a toolbox sees it: another default, all else from torch."""

    checkpoint = staticmethod(_checkpoint)

    def __getattr__(self, name: str) -> object:
        return getattr(torch_checkpoint, name)


_NON_REENTRANT = _NonReentrant(torch_checkpoint.__name__)


def rebind(module: ModuleType) -> None:
    """Exchange the references of `module` to torch's checkpointing."""
    for name, value in list(vars(module).items()):
        if value is torch_checkpoint:
            setattr(module, name, _NON_REENTRANT)
        elif value is torch_checkpoint.checkpoint:
            setattr(module, name, _checkpoint)


def is_needed() -> bool:
    """Whether torch takes something else than `use_reentrant=False` where nothing is said."""
    default = inspect.signature(torch_checkpoint.checkpoint).parameters["use_reentrant"].default
    return default is not False


CURE = Cure(
    name="recompute",
    reason="the toolboxes' with_cp=True does not say use_reentrant, and torch then takes the "
    "variant in which gates inside a recomputed block get no gradient",
    is_needed=is_needed,
    apply=lambda: after_import(lambda name: name.partition(".")[0] in TOOLBOXES, rebind),
)
