"""Parameters that an optimiser treats alike, in one group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.optim import Optimizer


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """mmengine's optimiser constructor, with a group for each setting and not for each parameter.

    `optim_wrapper=dict(constructor='MergedGroupsConstructor', paramwise_cfg=..., ...)`; it takes
    what `DefaultOptimWrapperConstructor` takes.

    An optimiser walks its groups one by one, so its `foreach` and `fused` forms have nothing to
    do at once in groups of one. A gate and its cheap operations are seven small parameters more to
    a convolution: their groups' steps took longer than all that the gates compute.

    A checkpoint of an optimiser resumes with the groups that it was saved with.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        wrapper = super().__call__(model)
        refuse_other_groups(wrapper)
        return wrapper

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **kwargs: Any
    ) -> None:
        super().add_params(params, module, prefix, **kwargs)
        # It calls itself for each child; the last to return is the one that holds them all.
        if not prefix:
            params[:] = merged(params)


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of equal settings as one, in the order in which they first came."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        # By what they read like: lists, as betas may be, cannot be keys.
        one = found.setdefault(repr(sorted(settings.items())), {"params": [], **settings})
        one["params"] += group["params"]
    return list(found.values())


def refuse_other_groups(optim_wrapper: Any) -> None:
    """From here on its optimisers tell of a checkpoint that another constructor's groups made."""
    for optimizer in optimizers_of(optim_wrapper):
        optimizer.register_load_state_dict_pre_hook(_compare)


def optimizers_of(optim_wrapper: Any) -> list[Optimizer]:
    """Its own, or those of several wrappers in a dict; none where nothing is trained yet."""
    several = isinstance(optim_wrapper, OptimWrapperDict)
    wrappers = optim_wrapper.optim_wrappers.values() if several else [optim_wrapper]
    found = [getattr(wrapper, "optimizer", None) for wrapper in wrappers]
    return [optimizer for optimizer in found if isinstance(optimizer, Optimizer)]


def decayed(parameters: Iterable[nn.Parameter], optim_wrapper: Any) -> int:
    """How many of them have weight decay."""
    own = {id(parameter) for parameter in parameters}
    groups = [g for optimizer in optimizers_of(optim_wrapper) for g in optimizer.param_groups]
    return sum(
        id(p) in own and group.get("weight_decay", 0) > 0
        for group in groups
        for p in group["params"]
    )


def _compare(optimizer: Optimizer, state: dict[str, Any]) -> None:
    theirs, ours = (
        [len(group["params"]) for group in groups]
        for groups in (state["param_groups"], optimizer.param_groups)
    )
    if theirs != ours:
        raise ValueError(
            f"the checkpoint's optimiser has {len(theirs)} groups of {sum(theirs)} parameters, "
            f"this one {len(ours)} of {sum(ours)}: it is of another optim_wrapper.constructor, "
            "paramwise_cfg or network. Resume with the settings that it was saved with, or begin "
            "anew from its weights alone (load_from without resume)"
        )
