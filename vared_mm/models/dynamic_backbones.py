"""The prefix rule: `VaRedX` is the backbone `X` of any toolbox with dynamic convolutions, `CGNetX`
that with those of CGNet, `GhostX` that with Ghost modules.

What is built is an `X`, of the toolbox whose scope the config is in; its convolutions alone are
exchanged, so that checkpoints of `X` load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope, Registry
from torch import nn

from vared_mm.method import (
    DynamicConfig,
    UnsupportedConvError,
    VaRedConv2d,
    VaRedConv3d,
    make_dynamic,
)
from vared_mm.method.config import Targets
from vared_mm.method.suitable import check_conv
from vared_mm.method.surgery import matching_convs
from vared_mm.models.presets import PRESETS, RIVAL_PRESETS
from vared_mm.rivals.cgnet import (
    CGConv2d,
    CGConv3d,
    CGNetConfig,
    check_channel_gated,
    make_cgnet,
)
from vared_mm.rivals.ghost import GhostConfig, check_ghost, make_ghost
from vared_mm.settings import kind

TOOLBOXES = ("mmaction", "mmseg", "mmdet")

# What a config names: "ResNet", "mmdet.ResNet", or the class itself.
Kind = str | type[nn.Module]


class Form(NamedTuple):
    """What convolutions become: `<prefix>X` is X with the argument that `config.option` names.

    With `leaves`, those that a preset names and `check` refuses stay plain.
    """

    prefix: str
    config: type[Targets]
    check: Callable[[nn.Module, Any], None]
    make: Callable[..., list[str]]
    presets: Mapping[str, Mapping[str, Any]]
    leaves: bool = True


FORMS = (
    Form("VaRed", DynamicConfig, check_conv, make_dynamic, PRESETS, leaves=False),
    Form("CGNet", CGNetConfig, check_channel_gated, make_cgnet, RIVAL_PRESETS),
    Form("Ghost", GhostConfig, check_ghost, make_ghost, RIVAL_PRESETS),
)


def build_exchanged(
    form: Form, backbone: dict[str, Any], given: Any = None, toolbox: str | None = None
) -> nn.Module:
    """Builds `backbone` and exchanges its convolutions.

    Args:
        backbone: Its config, as without us.
        given: Settings of `form.config`, finished or a mapping, which goes before the preset's.
        toolbox: Where a type without a scope is looked for first; else in the current scope.
    """
    finished = isinstance(given, form.config)
    if not finished and not isinstance(given, Mapping | None):
        form.config.make(given)  # Which refuses it.
    named = finished or "targets" in (given or {})
    preset = form.presets.get(kind(backbone), {})
    if named and not finished and "(?P<block>" not in str(given["targets"]):
        # A preset's gate for each block is for the blocks that its own targets name.
        preset = {}
    settings = form.config.make(given if finished else {**preset, **(given or {})})
    model = built(backbone, toolbox)
    # Many backbones freeze their `frozen_stages` here alone, and not all return themselves. A gate
    # there could not learn, and an untrained one would spoil what the frozen weights compute.
    model.train()
    matched = matching_convs(model, settings)
    stay = {name for name, conv in matched.items() if is_frozen(conv)}
    left = f"; {len(stay)} frozen ones stay as they are" if stay else ""
    if form.leaves and not named:
        odd = {name for name, conv in matched.items() if not suits(form, conv, settings)}
        left += f"; {len(odd)} cannot be: {', '.join(sorted(odd))}" if odd else ""
        stay |= odd
    names = form.make(model, settings, except_for=stay)
    print_log(
        f"{kind(backbone)}: {len(names)} convolutions are {form.config.becomes}{left}", "current"
    )
    return model


def built(backbone: dict[str, Any], toolbox: str | None = None) -> nn.Module:
    registry = registry_of(backbone["type"], toolbox)
    # What it builds inside belongs to its toolbox too, whichever scope asked for it.
    scope = {} if registry is MODELS else {"_scope_": registry.scope}
    return registry.build({**backbone, **scope})


def suits(form: Form, conv: nn.Module, settings: Targets) -> bool:
    try:
        form.check(conv, settings)
    except UnsupportedConvError:
        return False
    return True


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


def prefixed(form: Form, name: str, toolbox: str | None = None) -> Callable[..., nn.Module]:
    """The builder of `<prefix><name>`: the arguments of `<name>` and those of the form."""

    def build(**settings: Any) -> nn.Module:
        own = settings.pop(form.config.option, None)
        return build_exchanged(form, {"type": name, **settings}, own, toolbox)

    build.__name__ = f"{form.prefix}{name}"
    build.of_toolbox = partial(prefixed, form, name)  # type: ignore[attr-defined]
    return build


def any_backbone(form: Form) -> Callable[..., nn.Module]:
    """Any backbone, one of your own too: `dict(type='VaRedBackbone', backbone=dict(type='X'))`."""

    def build(backbone: dict[str, Any], **settings: Any) -> nn.Module:
        return build_exchanged(form, backbone, settings.pop(form.config.option, None), **settings)

    return build


for _form in FORMS:
    MODELS.register_module(name=f"{_form.prefix}Backbone", module=any_backbone(_form))
    for _name in PRESETS:
        MODELS.register_module(name=f"{_form.prefix}{_name}", module=prefixed(_form, _name))
for _conv in (VaRedConv2d, VaRedConv3d, CGConv2d, CGConv3d):
    MODELS.register_module(module=_conv)
