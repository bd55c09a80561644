"""Exchanges the convolutions of a model: check all, then change, then say what changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from types import MethodType
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parallel import DistributedDataParallel

from vared_mm.method.config import DynamicConfig, Targets
from vared_mm.method.errors import NoMatchingModuleError, UnsupportedConvError
from vared_mm.method.layer import VaRedConv2d, VaRedConv3d
from vared_mm.method.suitable import check_conv, dynamic_axes

Settings = TypeVar("Settings", bound=Targets)


def make_dynamic(
    model: nn.Module,
    config: DynamicConfig | Mapping[str, Any],
    except_for: Collection[str] = (),
) -> list[str]:
    """Exchanges the convolutions that `config.targets` matches for dynamic ones, in place.

    Parameters are shared and keep their names: a checkpoint of the plain model loads, with gate
    and cheap operations as the only missing keys. On an error the model is as it was.
    Convolutions that `config.exclude` or `except_for` names stay as they are.

    Returns:
        The names of the exchanged convolutions, in the model's order.

    Raises:
        NoMatchingModuleError: No convolution has such a name, or one to exclude is no target.
        UnsupportedConvError: A matched convolution cannot be made dynamic.
    """
    config = DynamicConfig.make(config)
    matched = matching_convs(model, config, except_for)
    check_each(matched, config, check_conv)
    leaders = _leaders(matched, config)
    made: dict[int, Any] = {}
    for name, conv in matched.items():
        kind = VaRedConv3d if isinstance(conv, nn.Conv3d) else VaRedConv2d
        leader = leaders.get(name)
        made[id(conv)] = kind.from_conv(conv, config, made[id(leader)] if leader else None)
    exchange(model, made)
    return list(matched)


def exchange_each(
    model: nn.Module,
    config: Settings,
    except_for: Collection[str],
    check: Callable[[nn.Module, Settings], None],
    make: tuple[Callable[..., nn.Module], Callable[..., nn.Module]],
) -> list[str]:
    """As `make_dynamic`, where each convolution is exchanged by itself.

    Args:
        make: What makes of a 2-D and of a 3-D convolution, and the config, what takes its place.
    """
    matched = matching_convs(model, config, except_for)
    check_each(matched, config, check)
    made = {id(conv): make[isinstance(conv, nn.Conv3d)](conv, config) for conv in matched.values()}
    exchange(model, made)
    return list(matched)


def check_each(
    convs: Mapping[str, _ConvNd], config: Settings, check: Callable[[nn.Module, Settings], None]
) -> None:
    """Raises what `check` does, with the convolution's name."""
    for name, conv in convs.items():
        try:
            check(conv, config)
        except UnsupportedConvError as error:
            raise UnsupportedConvError(f"{name}: {error}") from None


def matching_convs(
    model: nn.Module, config: Targets, except_for: Collection[str] = ()
) -> dict[str, _ConvNd]:
    """The convolutions that the targets name, or `NoMatchingModuleError` with candidates."""
    if isinstance(model, nn.Conv2d | nn.Conv3d):
        raise NoMatchingModuleError(
            "the model is itself a convolution, which cannot be exchanged within it; use "
            "VaRedConv2d.from_conv or VaRedConv3d.from_conv, or that of a rival's"
        )
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        raise UnsupportedConvError(
            "the model is in DistributedDataParallel already, which would not average gradients of "
            f"what becomes {config.becomes}; change the model first and wrap it then"
        )
    convs: dict[str, _ConvNd] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    }
    if not convs:
        raise NoMatchingModuleError(
            f"{type(model).__name__} has no Conv2d or Conv3d that could be made {config.becomes}"
        )
    targets = {name: m for name, m in convs.items() if re.fullmatch(config.targets, name)}
    if not targets:
        raise NoMatchingModuleError(
            f"targets={config.targets!r} matches the full name of none of the {len(convs)} "
            f"convolutions, which are named like {_like(config.targets, convs)}"
        )
    for name in config.exclude:
        if name not in targets:
            raise NoMatchingModuleError(
                f"exclude names {name!r}, which is none of the {len(targets)} convolutions that "
                f"targets={config.targets!r} matches; they are named like {_like(name, targets)}"
            )
    matched = {n: m for n, m in targets.items() if n not in {*config.exclude, *except_for}}
    if not matched:
        raise NoMatchingModuleError(
            f"exclude, what is frozen and what cannot be made {config.becomes} with these settings "
            f"leave none of the {len(targets)} convolutions that targets={config.targets!r} "
            "matches; is the plain network what is wanted?"
        )
    return matched


def _like(name: str, names: Collection[str]) -> str:
    near = get_close_matches(name, names, n=3, cutoff=0.2) or list(names)[:3]
    return ", ".join(map(repr, near))


def _leaders(matched: dict[str, _ConvNd], config: DynamicConfig) -> dict[str, _ConvNd]:
    """With one gate for a block: for each of its further convolutions the first one."""
    if config.share == "conv":
        return {}
    firsts: dict[str, str] = {}
    leaders: dict[str, _ConvNd] = {}
    for name in matched:
        match = re.fullmatch(config.targets, name)
        block = match["block"] if match else None
        # What the pattern puts into no block keeps a gate of its own.
        first = name if block is None else firsts.setdefault(block, name)
        if first == name:
            continue
        axes = [dynamic_axes(matched[n], config) for n in (first, name)]
        if axes[0] != axes[1]:
            raise UnsupportedConvError(
                f"{name} reduces {axes[1]} and {first} {axes[0]}: they cannot share the gate of "
                f"block {block!r}"
            )
        leaders[name] = matched[first]
    return leaders


def exchange(model: nn.Module, made: Mapping[int, nn.Module]) -> None:
    """Puts what was made for each module, by its id, in its place, or in all of its places.

    Raises:
        UnsupportedConvError: A module holds one where torch does not know of it, and would go on
            with what was there.
    """
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute != "_modules" and any(id(one) in made for one in within(value)):
                raise UnsupportedConvError(
                    f"{attribute} of {name or 'the model'} ({type(module).__name__}) holds a "
                    "convolution past torch, which would stay as it was and be called in the place "
                    "of the new one; hold it in an nn.ModuleList or nn.ModuleDict, or by its name"
                )
    places = [
        (parent, name, made[id(child)])
        for parent in model.modules()
        for name, child in parent._modules.items()
        if id(child) in made
    ]
    for parent, name, new in places:
        setattr(parent, name, new)


def within(value: Any) -> Iterator[Any]:
    """The value, what is in it, if it is a list or the like, and whose method it is."""
    yield value
    if isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from within(one)
