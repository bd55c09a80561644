"""Trained weights into a model: those of its whole network, or a message that tells what is not.

mmengine only logs what does not fit, and a model would answer with random weights.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, CheckpointLoader, EpochBasedTrainLoop
from torch import Tensor, nn

from vared_mm.engine.around_forward import unwrapped
from vared_mm.engine.check_clip_labels_hook import CheckClipLabelsHook
from vared_mm.engine.scores import average_views
from vared_mm.method import DynamicError
from vared_mm.method.observe import gated_convs
from vared_mm.rivals.ghost import ghosts
from vared_mm.saving import SavingRunner
from vared_mm.screen import QuietRunner

NEW_PARTS = ("gate", "cheap")


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


def load_weights(model: nn.Module, file: str) -> dict[str, Any]:
    """Loads a checkpoint, and returns what it tells beside the weights, its `meta`.

    One of the static network has no gates, and they stay as they are, which is told; one of a
    dynamic network has to have all of them.

    Raises:
        SystemExit: The file cannot be read, or is of another network.
    """
    checkpoint = read_checkpoint(file)
    put_into(model, checkpoint, file)
    return checkpoint.get("meta") or {}


def read_checkpoint(file: str) -> dict[str, Any]:
    """Raises `SystemExit` for what cannot be read or holds no weights."""
    try:
        with told_of(file):
            checkpoint = CheckpointLoader.load_checkpoint(file, map_location="cpu")
        weights = checkpoint.get("state_dict", checkpoint)
        if not any(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError("it holds no weights")
    except Exception as error:
        told = " ".join(str(error).split())
        raise SystemExit(f"{file} is no checkpoint ({type(error).__name__}: {told})") from None
    return checkpoint


@contextmanager
def told_of(file: str) -> Iterator[None]:
    """Around the reading of a checkpoint: `SystemExit` where there is none, or one that torch takes
    for unsafe. Its own text advises to run what the file holds."""
    try:
        yield
    except FileNotFoundError:
        raise SystemExit(f"there is no checkpoint {file}") from None
    except (UnpicklingError, RuntimeError) as error:
        if "PytorchStreamReader" in str(error):
            raise SystemExit(
                f"{file} is no whole checkpoint: its end is missing, as of one that was still "
                "written or copied; take another one"
            ) from None
        if "weights_only" not in str(error):
            raise
        if found := re.search(r"GLOBAL ([\w.]+) w", str(error)):
            raise SystemExit(
                f"{file} holds objects beside weights, as {found[1]}, which are not loaded: they "
                "could run any code; wanted what torch.save(model.state_dict(), FILE) writes"
            ) from None
        raise SystemExit(
            f"{file} is no checkpoint: torch.save did not write it; wanted a file as trainings "
            "leave in their work_dir, like epoch_20.pth"
        ) from None


def put_into(
    model: nn.Module, checkpoint: Mapping[str, Any], file: str, gates_too: bool = False
) -> None:
    """Parameters and buffers of the model from a checkpoint that was read from `file`.

    Args:
        gates_too: The static network's checkpoint is refused where the model has gates.
    """
    model = unwrapped(model)
    state = named_as_in_model(checkpoint.get("state_dict", checkpoint))
    try:
        missing, left = model.load_state_dict(state, strict=False)
    except DynamicError as error:
        raise SystemExit(f"{file} does not fit: {error}") from None
    except RuntimeError as error:
        # The first line names the class of the model, each other one a weight.
        _, *faults = str(error).strip().splitlines()
        raise SystemExit(other_network(file, faults, "do not fit")) from None
    check_ghosts(model, state, file, gates_too)
    check_missing(model, state, missing, file, gates_too)
    check_left(model, state, left, file)
    odd = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if odd:
        warn(f"{file} holds NaN or infinite numbers in {len(odd)} weights, as {odd[0]}")


def named_as_in_model(weights: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Without the name of a wrapper around the network that saved them."""
    state = OrderedDict((str(name).removeprefix("module."), v) for name, v in weights.items())
    # By it modules tell the weights of their former versions, and other settings.
    told = getattr(weights, "_metadata", None) or {}
    by_name = {f"{name}.".removeprefix("module.")[:-1]: of for name, of in told.items()}
    state._metadata = by_name  # type: ignore[attr-defined]
    return state


def as_saved(checkpoint: dict[str, Any]) -> None:
    """Makes of what was read what mmengine saves, weights named as in the model under
    `state_dict`."""
    weights = named_as_in_model(checkpoint.get("state_dict", checkpoint))
    if "state_dict" not in checkpoint:
        checkpoint.clear()
    checkpoint["state_dict"] = weights


def check_missing(
    model: nn.Module, state: Mapping[str, Any], names: Iterable[str], file: str, gates_too: bool
) -> None:
    """Of what the model has and the checkpoint lacks, counters and gates are no fault."""
    own = tuple(f"{name}.{part}." for name in gated_convs(model) for part in NEW_PARTS)
    is_static = not any(name.startswith(own) for name in state)
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    gates = [name for name in names if name.startswith(own) and is_static]
    if missing := [name for name in names if name not in gates]:
        raise SystemExit(other_network(file, missing, "are missing there"))
    if gates and gates_too:
        raise SystemExit(
            f"{file} is of the static network and has no {gates[0]}; give the config of the static "
            "network, or a checkpoint that was trained with this one"
        )
    if gates:
        warn(f"{file} is of the static network: the gates of the config's are not trained")


def check_ghosts(model: nn.Module, state: Mapping[str, Any], file: str, gates_too: bool) -> None:
    """The static network's filters load into Ghost modules, which answer otherwise untrained."""
    made = [name for name in ghosts(model) if f"{name}.weight" in state]
    if made and gates_too:
        raise SystemExit(
            f"{file} is of the static network and has no {made[0]}.primary.weight; give the config "
            "of the static network, or a checkpoint that was trained with this one"
        )
    if made:
        warn(f"{file} is of the static network: the Ghost modules of the config's are not trained")
    refuse_other_ghosts(model, state, file)


def refuse_other_ghosts(model: nn.Module, state: Mapping[str, Any], file: str) -> None:
    theirs = {name.rpartition(".primary.")[0] for name in state if ".primary.weight" in name}
    if other := theirs - set(ghosts(model)):
        raise SystemExit(
            f"{file} is of a network with Ghost modules, as {min(other)}, which the config's "
            "lacks; give the config that it was trained with"
        )


def check_left(model: nn.Module, state: Mapping[str, Any], names: Iterable[str], file: str) -> None:
    """A whole part that the model lacks, as a head for training alone, is left; nothing else."""
    parts = {name.partition(".")[0] for name in model.state_dict()}
    left = [name for name in names if is_weight(state[name])]
    gates = [name for name in left if any(f".{part}." in name for part in NEW_PARTS)]
    if gates:
        raise SystemExit(
            f"{file} is of a dynamic network, and the config's has no {gates[0]}: without its "
            "gates it would answer otherwise; give the config that it was trained with"
        )
    if more := [name for name in left if name.partition(".")[0] in parts]:
        raise SystemExit(other_network(file, more, "have no place here"))
    if left:
        others = ", ".join(dict.fromkeys(name.partition(".")[0] for name in left))
        warn(f"{file}: left out {others}, which the config's network lacks")


def warn(text: str) -> None:
    print_log(text, "current", logging.WARNING)


def is_weight(value: Any) -> bool:
    """No index or counter, which modules keep or make anew as they like."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def other_network(file: str, faults: list[str], what: str) -> str:
    return (
        f"{file} is of another network than the config: {len(faults)} weights {what}, as "
        f"{faults[0].strip()}"
    )
