"""VA-RED² for OpenMMLab: video networks that compute only what each clip needs.

Importing the package cures what is broken in the installed OpenMMLab packages (`vared_mm.compat`)
and registers our backbones, hooks, metrics and data sets in mmengine's root registries, so that a
config needs only `custom_imports = dict(imports=['vared_mm'])`. Without mmengine and mmcv the
method itself (`vared_mm.method`, torch alone) still imports.
"""

import sys
from importlib.util import find_spec

from vared_mm.oldest import too_old

__version__ = "0.2.0"

# The doctor tells what is broken, so it has to start where the package does not.
_EXAMINED = "vared_mm.doctor" in getattr(sys, "orig_argv", ())

if (reason := too_old()) is not None and not _EXAMINED:
    raise ImportError(reason)
if find_spec("torch") is not None:
    from vared_mm import kernels as kernels
if all(find_spec(name) is not None for name in ("torch", "mmengine", "mmcv")):
    try:
        from vared_mm import compat

        compat.apply()

        from vared_mm import datasets as datasets
        from vared_mm import engine as engine
        from vared_mm import models as models

        compat.scopes.apply()
    except Exception:
        if not _EXAMINED:
            raise
