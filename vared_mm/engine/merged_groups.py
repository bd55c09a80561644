"""Parameters that an optimiser treats alike, in one group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.optim import Optimizer

from vared_mm.engine.around_forward import unwrapped


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
        refuse_other_groups(wrapper, model)
        for optimizer in optimizers_of(wrapper):
            # torch.compile cannot trace the config's kind of dict.
            optimizer.param_groups[:] = map(dict, optimizer.param_groups)
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


def refuse_other_groups(optim_wrapper: Any, model: nn.Module) -> None:
    """From here on its optimisers name their parameters in checkpoints, and tell of one whose
    groups are others."""
    # As in checkpoints, without the wrappers of single parts.
    named = unwrapped(model).named_parameters()
    names = {id(p): name.replace("module.", "") for name, p in named}
    for optimizer in optimizers_of(optim_wrapper):
        optimizer.register_state_dict_post_hook(partial(_tell_names, names))
        optimizer.register_load_state_dict_pre_hook(partial(_compare, names))


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


def _names_in(optimizer: Optimizer, names: Mapping[int, str]) -> list[str]:
    return [names.get(id(p), "") for group in optimizer.param_groups for p in group["params"]]


def _tell_names(names: Mapping[int, str], optimizer: Optimizer, state: dict[str, Any]) -> None:
    state["parameter_names"] = _names_in(optimizer, names)


def _compare(names: Mapping[int, str], optimizer: Optimizer, state: dict[str, Any]) -> None:
    theirs, ours = (
        [len(group["params"]) for group in groups]
        for groups in (state["param_groups"], optimizer.param_groups)
    )
    told, wanted = state.get("parameter_names"), _names_in(optimizer, names)
    others = [pair for pair in zip(told or [], wanted, strict=False) if pair[0] != pair[1]]
    if theirs != ours:
        differ = f"{len(theirs)} groups of {sum(theirs)} parameters, this one {len(ours)} of "
        differ += str(sum(ours))
    elif others:
        differ = f"{others[0][0]} where this one has {others[0][1]}"
    else:
        return
    raise ValueError(
        f"the checkpoint's optimiser has {differ}: it is of another optim_wrapper.constructor, "
        "paramwise_cfg or network. Resume with the settings that it was saved with, or begin anew "
        "from its weights alone (load_from without resume)"
    )
