"""mmengine asks `pkg_resources` where a package is installed; setuptools 82 removed it.

`Config.fromfile` of a file with `_base_ = 'mmaction::...'` then fails. These are mmengine's three
functions written on `importlib.metadata`, with the same names, arguments and errors.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from .cure import Cure


def is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        spec = find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def get_installed_path(package: str) -> str:
    """Folder of the package; for a package installed as editable, the folder it is edited in."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return _imported_from(package)
    for name in (package, _module_of(found)):
        folder = Path(str(found.locate_file(name)))
        if folder.is_dir():
            return str(folder)
    return _imported_from(_module_of(found))


def package2module(package: str) -> str:
    return _module_of(distribution(package))


def _module_of(found: Distribution) -> str:
    names = (found.read_text("top_level.txt") or "").split()
    if not names:
        raise ValueError(f"can not infer the module name of {found.name}: no top_level.txt")
    return names[0]


def _imported_from(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise PackageNotFoundError(module)
    return str(Path(spec.origin).parent)


def apply() -> None:
    from mmengine.utils import package_utils

    for new in (is_installed, get_installed_path, package2module):
        old = getattr(package_utils, new.__name__)
        # mmengine's modules import these by name, so each of them holds its own reference.
        for module_name, module in list(sys.modules.items()):
            inside = module_name.partition(".")[0] == "mmengine"
            if inside and vars(module).get(new.__name__) is old:
                setattr(module, new.__name__, new)


CURE = Cure(
    name="installed-packages",
    reason="mmengine imports pkg_resources, which setuptools >= 82 no longer has, so "
    "_base_ = 'mmaction::...' fails",
    is_needed=lambda: find_spec("mmengine") is not None and find_spec("pkg_resources") is None,
    apply=apply,
)
