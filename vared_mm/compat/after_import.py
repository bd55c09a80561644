"""Change a module of an installed package at the moment it has been imported.

Nothing is imported for it: a module that nobody asks for is never touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

Applies = Callable[[str], bool]
Change = Callable[[ModuleType], None]


class _Loader(SourceFileLoader):
    """Runs the module as Python would, then the changes meant for it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for applies, change in _FINDER.changes:
            if applies(module.__name__):
                change(module)


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.changes: list[tuple[Applies, Change]] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not any(applies(fullname) for applies, _ in self.changes):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        # A module that is not a plain source file (in a zip, compiled) is left as it is.
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


_FINDER = _Finder()


def after_import(applies: Applies, change: Change) -> None:
    """Call `change` on each module whose name `applies`: now if it is loaded, else once it is."""
    for name, module in list(sys.modules.items()):
        if applies(name):
            change(module)
    _FINDER.changes.append((applies, change))
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
