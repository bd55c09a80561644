"""Which convolutions can be made dynamic and along which axes, and which checkpoints fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.config import DynamicConfig, Targets
from vared_mm.method.errors import DynamicError, UnsupportedConvError


def dynamic_axes(conv: _ConvNd, config: DynamicConfig) -> tuple[str, ...]:
    """The axes of `config` that `conv` has, channel first."""
    has = ("channel", "time") if isinstance(conv, nn.Conv3d) else ("channel",)
    return tuple(axis for axis in has if axis in config.axes)


# mmcv's own Conv2d and Conv3d differ from torch's in nothing but an old torch's empty batches.
_PLAIN_ELSEWHERE = ("mmcv.cnn.bricks.wrappers",)


# What `nn.Module` calls for a user, of passes and of checkpoints.
_HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks",
    "_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


def is_plain(conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether its class computes what torch's convolution does, and nothing else."""
    kind, base = type(conv), nn.Conv3d if isinstance(conv, nn.Conv3d) else nn.Conv2d
    own = kind.forward is not base.forward or kind._conv_forward is not base._conv_forward
    return not own or kind.__module__ in _PLAIN_ELSEWHERE


def check_conv(conv: nn.Module, config: DynamicConfig) -> None:
    """Raises `UnsupportedConvError` with the reason where `conv` cannot be made dynamic."""
    check_exchange(conv, config)
    assert isinstance(conv, _ConvNd)
    check_settings(conv, config)


def check_exchange(conv: nn.Module, config: Targets) -> None:
    """Raises `UnsupportedConvError` where `conv` is more than a convolution, or none."""
    if isinstance(getattr(conv, "config", None), type(config)):
        refuse(conv, config, "it already is")
    if not isinstance(conv, nn.Conv2d | nn.Conv3d):
        refuse(conv, config, "wanted an nn.Conv2d or nn.Conv3d")
    # Of its own, beside its class, as what makes a trained network's images tile gives it.
    replaced = {"forward", "_conv_forward"} & vars(conv).keys()
    if replaced or not is_plain(conv):
        base = "Conv3d" if isinstance(conv, nn.Conv3d) else "Conv2d"
        refuse(conv, config, f"it computes something else than {base}; leave it out of the targets")
    if isinstance(conv.weight, nn.parameter.UninitializedParameter):
        reason = "its input channels are not known yet; run a batch through the model first"
        refuse(conv, config, reason)
    if hasattr(conv, "parametrizations") or any(getattr(conv, name) for name in _HOOKS):
        reason = "it has hooks or parametrizations, which would be lost; remove them first"
        refuse(conv, config, reason)
    held = [*conv._parameters, *conv._buffers, *conv._modules]
    if more := [name for name in held if name not in ("weight", "bias")]:
        reason = f"it holds {more[0]!r} beside its weight and bias, which would be lost"
        refuse(conv, config, f"{reason}; leave it out of the targets")


def refuse(conv: nn.Module, config: Targets, reason: str) -> NoReturn:
    raise UnsupportedConvError(f"{type(conv).__name__} cannot be made {config.becomes}: {reason}")


def check_settings(conv: _ConvNd, config: DynamicConfig) -> None:
    """Raises `UnsupportedConvError` where the convolution has nothing to choose from."""
    if not dynamic_axes(conv, config):
        reason = f"axes={config.axes} names nothing it has; a 2-D convolution has channels alone"
        refuse(conv, config, reason)
    least = 2 ** (config.search_space - 1)
    if "channel" in config.axes and conv.out_channels < least:
        refuse(
            conv,
            config,
            f"its {conv.out_channels} output channels cannot be halved "
            f"{config.search_space - 1} times; leave it out of the targets",
        )


def check_checkpoint(
    conv: nn.Module, config: Targets, state: Mapping[str, Any], prefix: str
) -> None:
    """Refuses the gate and Φ of other settings; a checkpoint without any is the plain network's."""
    own = {f"{prefix}{key}": value for key, value in conv.state_dict().items()}
    stems = (f"{prefix}gate.", f"{prefix}cheap.")
    theirs, ours = (
        {
            key: tuple(value.shape)
            for key, value in values.items()
            # Old checkpoints of torch lack this count, which changes no answer.
            if key.startswith(stems) and not key.endswith("num_batches_tracked")
        }
        for values in (state, own)
    )
    if theirs and theirs != ours:
        key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
        raise DynamicError(
            f"the checkpoint's {key} is {theirs.get(key, 'missing')}, the model's is "
            f"{ours.get(key, 'missing')}: it was trained with other settings than "
            f"{config}, or in another form; give the model those"
        )
