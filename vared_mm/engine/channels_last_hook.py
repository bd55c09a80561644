"""The memory layout in which convolutions and cheap operations are fast."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vared_mm.method.equations import LAYOUTS
from vared_mm.method.observe import dynamic_convs


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores the convolutions' weights channels last; their outputs follow the weights.

    Pointwise and grouped dynamic convolutions, whose weights lie alike either way, are told so, and
    on a CPU turn their maps in training. Values do not change; cheap operations, pointwise and
    depthwise convolutions are quicker so.
    """

    def before_run(self, runner: Runner) -> None:
        channels_last(runner.model)


def channels_last(model: nn.Module) -> None:
    """In place, for 2-D and 3-D convolutions side by side."""
    for parameter in model.parameters():
        if parameter.ndim in LAYOUTS:
            layout = LAYOUTS[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=layout)
    for conv in dynamic_convs(model).values():
        conv.channels_last = True
