"""Modules of packages that may not be installed."""

from importlib import import_module
from importlib.util import find_spec

import pytest


def imported(name):
    """The module, or a skipped test where its package is not installed.

    A package that is there and does not import is a fault, and no reason to skip.
    """
    package = name.partition(".")[0]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
    return import_module(name)
