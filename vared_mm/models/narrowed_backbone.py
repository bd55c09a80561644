"""A backbone with fewer channels than its class gives it, layer by layer, as channel pruning leaves
it. It is a static network as any other: it trains, becomes dynamic and is prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vared_mm.models.dynamic_backbones import built
from vared_mm.settings import kind


@MODELS.register_module(name="NarrowedBackbone")
def narrowed_backbone(backbone: dict[str, Any], widths: Mapping[str, Sequence[int]]) -> nn.Module:
    """Builds `backbone` and cuts its layers; `tools/prune_channels.py` writes such configs.

    Args:
        backbone: Its config.
        widths: Of each layer that is narrower, the beginning of its weight's shape: (out, in) of a
            convolution, in for each group, or of a linear layer, (channels,) of a norm.

    Raises:
        ValueError: A layer that it has not, or not so wide.
    """
    model = built(backbone)
    layers = dict(model.named_modules())
    for name, sizes in widths.items():
        shape = tuple(getattr(getattr(layers.get(name), "weight", None), "shape", ()))
        fits = 0 < len(sizes) <= len(shape) and all(
            0 < size <= was for size, was in zip(sizes, shape, strict=False)
        )
        if not fits:
            raise ValueError(
                f"widths has {name}={tuple(sizes)}, and its weight in {kind(backbone)} is "
                f"{shape or 'not there'}; give the widths of this network"
            )
    for name, sizes in widths.items():
        cut(layers[name], sizes)
    return model


def cut(layer: nn.Module, sizes: Sequence[int]) -> None:
    """Leaves the first channels alone."""
    if isinstance(layer, _ConvNd):
        is_depthwise = layer.groups == layer.in_channels == layer.out_channels
        layer.groups = sizes[0] if is_depthwise else layer.groups
        layer.out_channels, layer.in_channels = sizes[0], sizes[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = sizes
    elif isinstance(layer, _BatchNorm):
        (layer.num_features,) = sizes
    for name, parameter in [*layer.named_parameters(recurse=False)]:
        kept = parameter.detach()[tuple(map(slice, sizes[: parameter.ndim]))].clone()
        setattr(layer, name, nn.Parameter(kept, parameter.requires_grad))
    for name, buffer in [*layer.named_buffers(recurse=False)]:
        if buffer.ndim:
            setattr(layer, name, buffer[: sizes[0]].clone())
