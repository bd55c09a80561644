"""The memory layout in which convolutions and cheap operations are fast."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vared_mm.method.equations import LAYOUTS
from vared_mm.method.observe import dynamic_convs


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores the convolutions' weights channels last; their outputs follow the weights.

    Pointwise and grouped dynamic convolutions, whose weights lie alike either way, are told so, and
    on a CPU turn their maps in training. Values do not change; cheap operations, pointwise and
    depthwise convolutions are quicker so.

    torch's DistributedDataParallel gives gradients back as the weights lay when it was made, so the
    model is wrapped once more. Where mmengine's Runner did not wrap it, weights stay as they are.
    """

    # Before what others do to the wrapper.
    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        model = runner.model
        wrappers = [m for m in model.modules() if isinstance(m, DistributedDataParallel)]
        tell_convs(model)
        if not wrappers:
            turn_weights(model)
        elif wrappers == [model] and hasattr(runner, "wrap_model"):
            turn_weights(model)
            runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), model.module)


def channels_last(model: nn.Module) -> None:
    """In place, for 2-D and 3-D convolutions side by side."""
    turn_weights(model)
    tell_convs(model)


def turn_weights(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.ndim in LAYOUTS:
            layout = LAYOUTS[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=layout)


def tell_convs(model: nn.Module) -> None:
    for conv in dynamic_convs(model).values():
        conv.channels_last = True
