"""The prefix rule: `VaRedX` is the backbone `X` of any toolbox with dynamic convolutions.

What is built is an `X`, of the toolbox whose scope the config is in; its convolutions alone are
exchanged, so that checkpoints of `X` load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
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


def build_dynamic(
    backbone: dict[str, Any], dynamic: Dynamic, preset: Mapping[str, Any]
) -> nn.Module:
    """Builds `backbone` and exchanges its convolutions.

    Args:
        backbone: Its config, as without us.
        dynamic: Settings of `DynamicConfig`; those given go before the preset's.
    """
    if not isinstance(dynamic, DynamicConfig):
        dynamic = DynamicConfig.make({**preset, **(dynamic or {})})
    named = backbone["type"]
    registry = registry_of(named) if isinstance(named, str) else MODELS
    # What it builds inside belongs to its toolbox too, whichever scope asked for it.
    scope = {} if registry is MODELS else {"_scope_": registry.scope}
    model = registry.build({**backbone, **scope})
    # `frozen_stages` freezes while the backbone is built. A gate there could not learn, and an
    # untrained one would spoil what the frozen weights compute.
    frozen = {name for name, conv in matching_convs(model, dynamic).items() if is_frozen(conv)}
    names = make_dynamic(model, dynamic, except_for=frozen)
    left = f"; {len(frozen)} frozen ones stay as they are" if frozen else ""
    print_log(f"{kind(backbone)}: {len(names)} convolutions are dynamic{left}", "current")
    return model


def is_frozen(conv: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in conv.parameters())


def registry_of(name: str) -> Registry:
    """The registry that knows the backbone: of the current scope, else of a toolbox that has it."""
    scope = DefaultScope.get_current_instance()
    here = [] if scope is None else [scope.scope_name]
    for toolbox in dict.fromkeys([*here, *TOOLBOXES]):
        if find_spec(toolbox) is None or find_spec(f"{toolbox}.registry") is None:
            continue
        registry = import_module(f"{toolbox}.registry").MODELS
        with registry.switch_scope_and_registry(toolbox):
            if registry.get(name) is not None:
                return registry
    return MODELS


@MODELS.register_module(name=f"{PREFIX}Backbone")
def dynamic_backbone(backbone: dict[str, Any], dynamic: Dynamic = None) -> nn.Module:
    """Any backbone, one of your own too: `dict(type='VaRedBackbone', backbone=dict(type='X'))`."""
    return build_dynamic(backbone, dynamic, PRESETS.get(kind(backbone), {}))


def prefixed(name: str) -> Callable[..., nn.Module]:
    """The builder of `VaRed<name>`: the arguments of `<name>` and `dynamic=dict(...)`."""

    def build(dynamic: Dynamic = None, **settings: Any) -> nn.Module:
        return build_dynamic({"type": name, **settings}, dynamic, PRESETS[name])

    build.__name__ = f"{PREFIX}{name}"
    return build


for _name in PRESETS:
    MODELS.register_module(name=f"{PREFIX}{_name}", module=prefixed(_name))
for _conv in (VaRedConv2d, VaRedConv3d):
    MODELS.register_module(module=_conv)
