"""mmengine's Runner for tests and for trainings: what a run begins with fits it, or it is told what
does not.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop, EpochBasedTrainLoop

from vared_mm.engine.around_forward import unwrapped
from vared_mm.engine.check_clip_labels_hook import CheckClipLabelsHook
from vared_mm.engine.scores import average_views
from vared_mm.saving import SavingRunner
from vared_mm.screen import QuietRunner
from vared_mm.weights import as_saved, put_into, read_checkpoint, refuse_other_ghosts, told_of, warn


class LabelledRunner(QuietRunner):
    """mmengine's, which looks whether the model has a class for each label, whatever hooks the
    config has, and has accuracy measured of one score a class."""

    def register_hooks(self, *args: Any, **settings: Any) -> None:
        super().register_hooks(*args, **settings)
        self.register_hook(CheckClipLabelsHook())

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        built = super().build_evaluator(evaluator)
        refuse_lacking(self.hooks, built.metrics)
        average_views(unwrapped(self.model), built.metrics)
        return built

    def build_val_loop(self, loop: Any) -> BaseLoop:
        built = super().build_val_loop(loop)
        refuse_left_out("val_dataloader", getattr(built, "dataloader", None))
        return built

    def build_test_loop(self, loop: Any) -> BaseLoop:
        built = super().build_test_loop(loop)
        refuse_left_out("test_dataloader", getattr(built, "dataloader", None))
        return built

    def call_hook(self, fn_name: str, **settings: Any) -> None:
        # What hooks take of one, as EMAHook does, and passes over where names are others.
        if fn_name == "after_load_checkpoint":
            as_saved(settings["checkpoint"])
        super().call_hook(fn_name, **settings)


def refuse_lacking(hooks: Iterable[Any], metrics: Iterable[Any]) -> None:
    """Before any work: some metrics measure what a hook attaches to predictions."""
    there = {kind.__name__ for hook in hooks for kind in type(hook).__mro__}
    for metric in metrics:
        if (wanted := getattr(metric, "needs_hook", None)) and wanted not in there:
            raise ValueError(
                f"{type(metric).__name__} measures what {wanted} attaches to predictions, and "
                f"there is none; add dict(type={wanted!r}) to custom_hooks"
            )


def refuse_left_out(name: str, loader: Any) -> None:
    """Metrics would be of a part of the samples, and records tell of all."""
    batches: Any = getattr(loader, "batch_sampler", None)
    if not getattr(batches, "drop_last", False):
        return
    samples = len(batches.sampler)
    if left := samples % batches.batch_size:
        raise ValueError(
            f"{name} has drop_last=True, by which {left} of {samples} samples would be left out; "
            "measure all of them, with drop_last=False"
        )


class CheckedRunner(LabelledRunner):
    """mmengine's, for tests: its `load_from` has to fit, with all gates of the model. What that
    tells beside the weights is its `loaded_meta`."""

    loaded_meta: Mapping[str, Any] = MappingProxyType({})

    def load_checkpoint(self, filename: str, *args: Any, **settings: Any) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename)
        # In it hooks may give weights the names that the model has.
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        put_into(self.model, checkpoint, filename, gates_too=True)
        self._has_loaded = True
        self.loaded_meta = checkpoint.get("meta") or {}
        return checkpoint


class TrainingRunner(SavingRunner, LabelledRunner):
    """mmengine's, for trainings: they may start from another form's weights, but not from those of
    Ghost modules, whose filters are a plain convolution's nowhere."""

    def load_checkpoint(self, filename: str, *args: Any, **settings: Any) -> dict[str, Any]:
        with told_of(filename):
            checkpoint = super().load_checkpoint(filename, *args, **settings)
        if self._resume:
            self.refuse_weights_alone(checkpoint, filename)
        state = checkpoint.get("state_dict", checkpoint)
        refuse_other_ghosts(unwrapped(self.model), state, filename)
        return checkpoint

    def refuse_weights_alone(self, checkpoint: Mapping[str, Any], filename: str) -> None:
        told = {*checkpoint, *(checkpoint.get("meta") or {})}
        wanted = {"epoch", "iter", "message_hub"}
        if self.param_schedulers:
            # Without it mmengine would begin the schedule anew, in the middle of the training.
            wanted |= {"param_schedulers"}
        if lacking := wanted - told:
            raise SystemExit(
                f"{filename} holds weights and no training to go on from: it lacks "
                f"{', '.join(sorted(lacking))}, as the best checkpoints of CheckpointHook do; go "
                "on from another one or, to start from its weights, in place of --resume give "
                f"--cfg-options {shlex.quote(f'load_from={filename}')}"
            )
        if "optimizer" not in told:
            warn(f"{filename} holds no optimizer, whose momentum and the like begin anew")

    def resume(self, filename: str, *args: Any, **settings: Any) -> None:
        ours = schedules(self.param_schedulers)
        super().resume(filename, *args, **settings)
        loop: Any = self.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, most = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done >= most:
            what = "epochs" if by_epoch else "iterations"
            warn(f"nothing is left to train: {filename} has {done} {what}, and {most} are wanted")
        theirs = schedules(self.param_schedulers)
        if others := [
            f"{key} is {theirs[key]}, and not {ours[key]}"
            for key in ours
            if ours[key] != theirs[key]
        ]:
            warn(
                f"{filename} goes on with its own schedule, whatever the config says: "
                f"{'; '.join(others)}. To train by the config's, begin anew from its weights "
                f"(load_from={filename} without resume)"
            )


# What tells when which rate is taken, of the schedulers of mmengine that have it.
OF_SCHEDULE = ("begin", "end", "T_max", "total_iters", "milestones", "base_values")


def schedules(built: Any) -> dict[str, Any]:
    """The settings of the schedulers that a runner built, by their places."""
    of_all = built if isinstance(built, Mapping) else {"": built or []}
    return {
        ".".join(filter(None, ("param_scheduler", name, str(i), key))): distinct(getattr(one, key))
        for name, several in of_all.items()
        for i, one in enumerate(several)
        for key in OF_SCHEDULE
        if hasattr(one, key)
    }


def distinct(value: Any) -> Any:
    """Of a rate for each group of parameters, those that differ."""
    return list(dict.fromkeys(value)) if isinstance(value, list) else value
