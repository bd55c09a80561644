"""`with_cp=True` recomputes a block in the backward pass, by torch's reentrant variant.

The toolboxes call `cp.checkpoint(function, x)` without saying which variant. torch then warns and
takes the reentrant one, which runs the block's forward pass without a graph: whatever is read
inside the block (a gate, and the efficiency loss on it) has no gradient. torch recommends the
other variant, `use_reentrant=False`, which keeps the graph.

Only the toolboxes' own references are exchanged, each when its module is imported; every other
caller of `torch.utils.checkpoint` keeps what torch does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

import torch.utils.checkpoint as torch_checkpoint

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


def _is_toolbox(name: str) -> bool:
    return name.partition(".")[0] in TOOLBOXES


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        rebind(module)


class _Finder(MetaPathFinder):
    """Finds what Python would find, and rebinds it once it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not _is_toolbox(fullname):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        # Any other loader (a zip, a compiled module) is left as it is.
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
            return spec
        return None


_FINDER = _Finder()


def is_needed() -> bool:
    """True for every torch up to now: none takes `use_reentrant=False` where nothing is said."""
    import inspect

    default = inspect.signature(torch_checkpoint.checkpoint).parameters["use_reentrant"].default
    return default is not False


def apply() -> None:
    for name, module in list(sys.modules.items()):
        if _is_toolbox(name):
            rebind(module)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


CURE = Cure(
    name="recompute",
    reason="the toolboxes' with_cp=True does not say use_reentrant, and torch then takes the "
    "variant in which gates inside a recomputed block get no gradient",
    is_needed=is_needed,
    apply=apply,
)
