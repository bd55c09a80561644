"""What all hooks have in common by which gates learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.dist import all_reduce_params
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import LossWatchingHook, refuse_twice
from vared_mm.engine.merged_groups import refuse_other_groups
from vared_mm.method.observe import gated_convs


class GateTrainingHook(LossWatchingHook):
    """One that adds a loss for the gates, and shares out among processes what they learn of their
    inputs."""

    # Before what records a pass (those that measure are none), averages weights or saves them.
    priority = "ABOVE_NORMAL"
    _batch = 0
    _statistics: Iterable[Tensor] = ()

    def before_run(self, runner: Runner) -> None:
        # A test has no optimiser yet.
        refuse_other_groups(runner.optim_wrapper, runner.model)

    def before_train(self, runner: Runner) -> None:
        refuse_twice(self, runner)
        self._statistics = statistics_of_gates(runner.model)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._batch = batch_idx

    def part_done(self, runner: Runner) -> float:
        """Of the training, in [0, 1]. Not by `runner.iter` where there are epochs: a training that
        goes on with another batch size, or other processes, keeps the count of the former steps."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return runner.iter / runner.max_iters
        return (runner.epoch + self._batch / len(runner.train_dataloader)) / runner.max_epochs

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        # mmengine's SyncBuffersHook, which not every config has, does so after checkpoints.
        all_reduce_params(self._statistics, op="mean")
        super().after_train_iter(*args, **kwargs)


def statistics_of_gates(model: nn.Module) -> list[Tensor]:
    """Each once, though convolutions may share a gate."""
    buffers = {b: None for conv in gated_convs(model).values() for b in conv.gate.buffers()}
    return [buffer for buffer in buffers if buffer.is_floating_point()]
