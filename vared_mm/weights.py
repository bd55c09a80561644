"""Trained weights into a model: those of its whole network, or a message that tells what is not.

mmengine only logs what does not fit, and a model would answer with random weights.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from vared_mm.engine.around_forward import unwrapped
from vared_mm.method import DynamicError
from vared_mm.method.observe import gated_convs
from vared_mm.rivals.ghost import ghosts

NEW_PARTS = ("gate", "cheap")


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
