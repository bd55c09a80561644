"""Whole models as functions of inputs alone, and random inputs that suit them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.engine.views import rows_are_frames


class _Reached(Exception):  # noqa: N818
    """The channels that the first convolution wants, and those that came."""


def answer_of(model: nn.Module, inputs: Tensor) -> Any:
    """What a model, or a backbone, answers to inputs alone.

    Raises:
        ValueError: where it cannot run on them.
    """
    try:
        return model(inputs, **call_of(model))
    except _Reached:
        raise
    except Exception as error:
        wanted = wanted_besides(model)
        why = f"its second stage wants {wanted}" if wanted else str(error)
        raise ValueError(
            f"a {type(model).__name__} does not run on inputs of shape {tuple(inputs.shape)} "
            f"alone: {why}; {'' if wanted else 'give another --shape, or '}count it on its own "
            "data by vared-mm get-flops --data N"
        ) from error


def call_of(model: nn.Module) -> dict[str, str]:
    """What a model has to be told to answer with its last tensors; a backbone nothing."""
    if not hasattr(model, "data_preprocessor"):
        return {}
    # Recognisers stop at the backbone unless told; other models know no stages.
    return {"mode": "tensor", **({"stage": "head"} if hasattr(model, "cls_head") else {})}


def wanted_besides(model: nn.Module) -> str | None:
    """What a stage takes that another one found, whatever the shape of the inputs."""
    if hasattr(model, "roi_head"):
        return "boxes"
    # Of MMSegmentation's PointRend.
    kinds = {kind.__name__ for part in model.modules() for kind in type(part).__mro__}
    return "points" if "PointHead" in kinds else None


def input_of(model: BaseModel, shape: tuple[int, ...]) -> Tensor:
    """One random input of T H W or H W, as the model's data preprocessor would hand it over, with
    as many channels as the first convolution that runs asks for."""
    is_action = hasattr(model.data_preprocessor, "format_shape")
    if len(shape) not in ((3,) if is_action else (2, 3)) or min(shape) < 1:
        raise ValueError(f"a shape is T H W for clips or H W for images; came {shape}")
    probe = random_input(model, shape, 3)
    return random_input(model, shape, channels_for(model, probe))


def random_input(model: BaseModel, shape: tuple[int, ...], channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if rows_are_frames(model):
        return torch.randn(1, shape[0], channels, *shape[1:], generator=generator)
    views = (1,) if hasattr(model.data_preprocessor, "format_shape") else ()
    return torch.randn(1, *views, channels, *shape, generator=generator)


def channels_for(model: BaseModel, probe: Tensor) -> int:
    """How many channels of the input the first convolution wants, asked by a probe of three."""

    def stop(conv: _ConvNd, args: tuple[Tensor, ...]) -> None:
        raise _Reached(conv.in_channels, args[0].shape[-1 - len(conv.kernel_size)])

    with ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            if isinstance(module, _ConvNd):
                stack.callback(module.register_forward_pre_hook(stop).remove)
        try:
            answer_of(model, probe.to(next(model.parameters())))
        except _Reached as reached:
            wanted, came = reached.args
            return max(1, 3 * wanted // came)
        except ValueError:
            pass  # The input proper fails by the same fault, and tells of it.
    return 3
