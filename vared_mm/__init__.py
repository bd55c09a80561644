"""VA-RED² for OpenMMLab: video networks that compute only what each clip needs.

Importing the package cures what is broken in the installed OpenMMLab packages (`vared_mm.compat`)
and registers our backbones, hooks, metrics and data sets in mmengine's root registries, so that a
config needs only `custom_imports = dict(imports=['vared_mm'])`. Without mmengine the method itself
(`vared_mm.method`, torch alone) still imports.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("mmengine") is not None:
    from vared_mm import compat

    compat.apply()

    from vared_mm import datasets, engine, models

    __all__ = ["datasets", "engine", "models"]
