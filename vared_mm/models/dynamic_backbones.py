"""The prefix rule: `VaRedX` is the backbone `X` of any toolbox with dynamic convolutions.

What is built is an `X`, of the toolbox whose scope the config is in; its convolutions alone are
exchanged, so that checkpoints of `X` load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope, Registry
from torch import nn

from vared_mm.method import DynamicConfig, VaRedConv2d, VaRedConv3d, make_dynamic
from vared_mm.method.surgery import matching_convs
from vared_mm.models.presets import PRESETS
from vared_mm.settings import kind

PREFIX = "VaRed"
TOOLBOXES = ("mmaction", "mmseg", "mmdet")

Dynamic = DynamicConfig | Mapping[str, Any] | None
# What a config names: "ResNet", "mmdet.ResNet", or the class itself.
Kind = str | type[nn.Module]


def build_dynamic(
    backbone: dict[str, Any], dynamic: Dynamic, toolbox: str | None = None
) -> nn.Module:
    """Builds `backbone` and exchanges its convolutions.

    Args:
        backbone: Its config, as without us.
        dynamic: Settings of `DynamicConfig`; those given go before the preset's.
        toolbox: Where a type without a scope is looked for first; else in the current scope.
    """
    if not isinstance(dynamic, DynamicConfig):
        dynamic = DynamicConfig.make({**PRESETS.get(kind(backbone), {}), **(dynamic or {})})
    registry = registry_of(backbone["type"], toolbox)
    # What it builds inside belongs to its toolbox too, whichever scope asked for it.
    scope = {} if registry is MODELS else {"_scope_": registry.scope}
    model = registry.build({**backbone, **scope})
    # Many backbones freeze their `frozen_stages` here alone, and not all return themselves. A gate
    # there could not learn, and an untrained one would spoil what the frozen weights compute.
    model.train()
    frozen = {name for name, conv in matching_convs(model, dynamic).items() if is_frozen(conv)}
    names = make_dynamic(model, dynamic, except_for=frozen)
    left = f"; {len(frozen)} frozen ones stay as they are" if frozen else ""
    print_log(f"{kind(backbone)}: {len(names)} convolutions are dynamic{left}", "current")
    return model


def is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def registry_of(named: Kind, toolbox: str | None = None) -> Registry:
    """The registry that knows the backbone: that of its scope or module if it has one, else of
    `toolbox`, of the current scope, or of a toolbox that has it.
    """
    told = named if isinstance(named, str) else named.__module__
    if "." in told or not isinstance(named, str):
        own = registry_in(told.partition(".")[0])
        return MODELS if own is None else own
    scope = DefaultScope.get_current_instance()
    here = [toolbox, None if scope is None else scope.scope_name]
    for place in dict.fromkeys([*filter(None, here), *TOOLBOXES]):
        registry = registry_in(place)
        if registry is None:
            continue
        with registry.switch_scope_and_registry(place):
            if registry.get(named) is not None:
                return registry
    return MODELS


def registry_in(package: str) -> Registry | None:
    """That of a toolbox's models, if it is one and installed."""
    try:
        module = import_module(f"{package}.registry")
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.registry"):
            raise
        return None
    return getattr(module, "MODELS", None)


@MODELS.register_module(name=f"{PREFIX}Backbone")
def dynamic_backbone(backbone: dict[str, Any], dynamic: Dynamic = None) -> nn.Module:
    """Any backbone, one of your own too: `dict(type='VaRedBackbone', backbone=dict(type='X'))`."""
    return build_dynamic(backbone, dynamic)


def prefixed(name: str, toolbox: str | None = None) -> Callable[..., nn.Module]:
    """The builder of `VaRed<name>`: the arguments of `<name>` and `dynamic=dict(...)`."""

    def build(dynamic: Dynamic = None, **settings: Any) -> nn.Module:
        return build_dynamic({"type": name, **settings}, dynamic, toolbox)

    build.__name__ = f"{PREFIX}{name}"
    build.of_toolbox = partial(prefixed, name)  # type: ignore[attr-defined]
    return build


for _name in PRESETS:
    MODELS.register_module(name=f"{PREFIX}{_name}", module=prefixed(_name))
for _conv in (VaRedConv2d, VaRedConv3d):
    MODELS.register_module(module=_conv)
