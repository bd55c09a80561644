"""What all that stands in for a module's `forward` in a prepared model has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from vared_mm.method.operators import is_exported, is_transformed, is_transforming, uncompiled


class PreparedForward:
    """Holds memory laid out for this process, so that it can be neither copied nor pickled, and
    runs kernels that no trace sees."""

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        # torch 2.10 says of all compiled code that it is exported, and its flag does not.
        compiled = torch.compiler.is_compiling()
        if torch.compiler._is_exporting_flag if compiled else is_exported():
            raise RuntimeError(
                "a prepared model cannot be traced or exported, as its kernels would be missing; "
                "export the model that it was made from, or call `vared-mm export`"
            )
        if not compiled and _are_transformed((inputs, settings)):
            raise RuntimeError(
                "neither torch.func nor forward-mode derivatives pass a prepared model, as its "
                "kernels know none; give them the model that it was made from"
            )
        # A kernel reads memory as it is, and a negated view has that of what it negates.
        plain = [x.resolve_neg() if isinstance(x, Tensor) else x for x in inputs]
        if settings:
            settings = tree_map_only(Tensor, Tensor.resolve_neg, settings)
        return uncompiled(self.compute, *plain, **settings)

    # torch.export asks for it before it calls.
    __code__ = __call__.__code__

    def compute(self, *inputs: Any, **settings: Any) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a prepared model can be neither copied nor pickled: copy or save the model it was "
            "made from, and prepare that again"
        )


def _are_transformed(inputs: Any) -> bool:
    # To look at each takes as long as a small kernel.
    return is_transforming() and any(
        isinstance(x, Tensor) and is_transformed(x) for x in tree_leaves(inputs)
    )


def has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def call_within(module: nn.Module) -> Callable[..., Any]:
    """The module's call in a prepared model, which has asked already whether it is traced."""
    forward = module.forward
    return module if has_hooks(module) else getattr(forward, "compute", forward)
