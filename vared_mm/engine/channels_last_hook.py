"""The memory layout in which convolutions and cheap operations are fast."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vared_mm.method.equations import LAYOUTS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Stores the convolutions' weights channels last; their outputs follow the weights.

    Values do not change; cheap operations and pointwise convolutions are quicker so.
    """

    def before_run(self, runner: Runner) -> None:
        channels_last(runner.model)


def channels_last(model: nn.Module) -> None:
    """In place, for 2-D and 3-D convolutions side by side."""
    for parameter in model.parameters():
        if parameter.ndim in LAYOUTS:
            layout = LAYOUTS[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=layout)
