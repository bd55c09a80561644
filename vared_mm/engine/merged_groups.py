"""Parameters that an optimiser treats alike, in one group."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with a group for each setting and not for each parameter.

    An optimiser walks its groups one by one, so its `foreach` and `fused` forms have nothing to
    do at once in groups of one. A gate and its cheap operations are seven small parameters more to
    a convolution: their groups' steps took longer than all that the gates compute.

    A checkpoint of an optimiser resumes with the groups that it was saved with.
    """

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **kwargs: Any
    ) -> None:
        super().add_params(params, module, prefix, **kwargs)
        # It calls itself for each child; the last to return is the one that holds them all.
        if not prefix:
            params[:] = merged(params)


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of equal settings as one, in the order in which they first came."""
    found: dict[tuple, dict[str, Any]] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        one = found.setdefault(tuple(sorted(settings.items())), {"params": [], **settings})
        one["params"] += group["params"]
    return list(found.values())
