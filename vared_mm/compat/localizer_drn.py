"""The wheel of mmaction2 1.2.0 lacks `mmaction.models.localizers.drn`, which it imports.

That folder has no `__init__.py`, so it is left out when a package is built. Every install from
PyPI fails on `import mmaction.models` for it, though only the temporal localizer DRN is lost.
"""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType
from typing import Any

from .cure import Cure
from .stand_in import is_shipped, stand_in

PACKAGE = "mmaction.models.localizers.drn"


class DRN:
    """Registered under its own name, so that a config with `type='DRN'` meets this reason."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "the temporal localizer DRN is missing from the installed mmaction2, whose wheel was "
            "built without mmaction/models/localizers/drn; to use it, clone the repository of "
            "mmaction2 and pip install -e it"
        )


def _make(name: str) -> ModuleType:
    from mmaction.registry import MODELS

    MODELS.register_module(name="DRN", module=DRN, force=True)
    module = ModuleType(name)
    module.DRN = DRN  # type: ignore[attr-defined]
    return module


def apply() -> None:
    stand_in(PACKAGE, ModuleType, is_package=True)
    stand_in(f"{PACKAGE}.drn", _make)


CURE = Cure(
    name="localizer-drn",
    reason="the mmaction2 1.2.0 wheel lacks mmaction.models.localizers.drn, so "
    "`import mmaction.models` fails",
    is_needed=lambda: find_spec("mmaction") is not None and not is_shipped(f"{PACKAGE}.drn"),
    apply=apply,
)
