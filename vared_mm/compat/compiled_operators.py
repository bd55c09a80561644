"""mmcv-lite ships the Python side of `mmcv.ops` without the compiled `mmcv._ext` behind it.

mmdet, mmsegmentation and the localization heads of mmaction2 import `mmcv.ops` whether or not they
call an operator. The stand-in lets them import: the operators of `vared_mm.compat.operators` run
in plain torch, every other one raises when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from .cure import Cure
from .stand_in import is_shipped, stand_in


class MissingOperatorError(NotImplementedError):
    """An mmcv operator was called that exists in compiled form only."""


def installed_mmcv() -> str:
    """Name and version of the distribution that gives `import mmcv`."""
    for distribution in ("mmcv-lite", "mmcv"):
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return "an mmcv without package metadata"


def _refuses(operator: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        installed = installed_mmcv()
        raise MissingOperatorError(
            f"mmcv operator {operator!r} needs the compiled mmcv; installed is {installed}, "
            f"which has none. Install full mmcv in its place: pip uninstall mmcv-lite; "
            f"pip install 'setuptools<81' && pip install --no-build-isolation 'mmcv>=2.0.0,<2.2.0'"
        )

    refuse.__name__ = operator
    return refuse


class CompiledOperators(ModuleType):
    """Has every operator mmcv asks for at import, and says so when a missing one is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Python looks modules up for names like __path__, which must stay absent.
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from .operators import PLAIN

        if name in ("get_compiler_version", "get_compiling_cuda_version"):
            # mmcv's collect_env asks at the start of every run; there was no compiler.
            return lambda: f"n/a ({installed_mmcv()})"
        return PLAIN.get(name) or _refuses(name)


CURE = Cure(
    name="compiled-operators",
    reason="mmcv-lite has no mmcv._ext, so importing mmdet.models, mmseg.models and the "
    "localization heads of mmaction fails",
    is_needed=lambda: find_spec("mmcv") is not None and not is_shipped("mmcv._ext"),
    apply=lambda: stand_in("mmcv._ext", CompiledOperators),
)
