"""Since torch 2.6 a bare `torch.load` reads tensors and plain containers only.

mmengine 0.10 calls it bare, and its checkpoints hold more: the message hub keeps every logged
scalar in a `HistoryBuffer` of numpy arrays, and OneCycle schedulers keep a method of their own.
Loading stays restricted; what is allowed on top are those classes, their methods and numbers.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from .cure import Cure

NUMBERS = "?bBhHiIlLqQefd"
"""numpy's type codes of booleans, integers and floats: no objects, which could be anything."""

NUMPY_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
"""The name numpy 2 writes, and the one in checkpoints saved under numpy 1."""


def _numpy_names() -> list[Any]:
    reconstruct: Any = np.zeros(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    names: list[Any] = [np.ndarray, np.dtype]
    names += dict.fromkeys(type(np.dtype(code)) for code in NUMBERS)
    for module in NUMPY_MODULES:
        names += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return names


def _getattr(owner: Any, name: str) -> Any:
    """Stands for `getattr` in a checkpoint, where it may name a few methods and nothing else."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    methods = {
        HistoryBuffer: ("min", "max", "current", "mean"),
        OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
    }
    for allowed_owner, names in methods.items():
        if owner is allowed_owner and name in names:
            return getattr(owner, name)
    raise ValueError(
        f"a checkpoint asks for attribute {name!r} of {owner!r}; allowed are "
        + "; ".join(f"{', '.join(names)} of {owner.__name__}" for owner, names in methods.items())
    )


def allowed() -> list[Any]:
    """What a checkpoint may hold beside tensors, as `torch.serialization` takes it."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    methods = (_getattr, "builtins.getattr")
    return [HistoryBuffer, OneCycleParamScheduler, methods, *_numpy_names()]


def is_needed() -> bool:
    unrestricted = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower()
    release = tuple(int(number) for number in torch.__version__.split(".")[:2])
    return release >= (2, 6) and unrestricted not in ("1", "y", "yes", "true")


CURE = Cure(
    name="safe-checkpoints",
    reason="mmengine calls torch.load bare, and torch >= 2.6 then refuses the HistoryBuffer and "
    "numpy numbers in its checkpoints, so resuming fails",
    is_needed=is_needed,
    apply=lambda: torch.serialization.add_safe_globals(allowed()),
)
