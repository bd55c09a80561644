"""Modules that an installed package imports and does not ship.

The finder stands last in `sys.meta_path`: Python asks it only for what no other finder found, so
a module that is really there always wins, and nothing is imported before somebody asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, all_suffixes
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def is_shipped(name: str) -> bool:
    """Whether an installed package has the module `name`, found by looking at its files.

    `importlib.util.find_spec` would import every parent of a dotted name.
    """
    top, *between, last = name.split(".")
    spec = find_spec(top)
    if spec is None:
        return False
    folders = [Path(folder, *between) for folder in spec.submodule_search_locations or ()]
    files = [last + suffix for suffix in all_suffixes()]
    return any(
        (folder / last).is_dir() or any((folder / file).is_file() for file in files)
        for folder in folders
    )


class StandIn(Loader):
    """Loads one module from a function that makes it."""

    def __init__(self, make: Callable[[str], ModuleType]) -> None:
        self.make = make

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.make(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run: `make` returned the module complete."""


class StandInFinder(MetaPathFinder):
    """Finds the modules that were given to `stand_in`."""

    def __init__(self) -> None:
        self.made_by: dict[str, tuple[Callable[[str], ModuleType], bool]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.made_by:
            return None
        make, is_package = self.made_by[fullname]
        return ModuleSpec(fullname, StandIn(make), is_package=is_package)


_FINDER = StandInFinder()


def stand_in(name: str, make: Callable[[str], ModuleType], is_package: bool = False) -> None:
    """From now on `import name` gives `make(name)` where no installed package has that module."""
    _FINDER.made_by[name] = (make, is_package)
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
