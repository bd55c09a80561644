"""Trained weights into a model: those of its whole network, or a message that tells what is not."""

from __future__ import annotations

from typing import Any

from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from vared_mm.method import DynamicError

NEW_KEYS = (".gate.", ".cheap.")


def load_weights(model: nn.Module, file: str) -> dict[str, Any]:
    """Loads a checkpoint, and returns what it tells beside the weights, its `meta`.

    One of the static network has no gates, and they stay as they are; one of a dynamic network has
    to have all of them.

    mmengine only logs what does not fit, and a model would answer with random weights.

    Raises:
        SystemExit: The file cannot be read, or is of another network.
    """
    try:
        loaded = load_checkpoint(model, file, map_location="cpu")
    except FileNotFoundError:
        raise SystemExit(f"there is no checkpoint {file}") from None
    except DynamicError as error:
        raise SystemExit(f"{file} does not fit: {error}") from None
    except Exception as error:
        raise SystemExit(f"{file} is no checkpoint ({type(error).__name__}: {error})") from None
    state = loaded.get("state_dict", loaded)
    theirs = {
        name.removeprefix("module."): tuple(value.shape)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    dynamic = any(map(is_new, theirs))
    ours = {n: tuple(p.shape) for n, p in model.named_parameters() if dynamic or not is_new(n)}
    other = [name for name, shape in ours.items() if theirs.get(name) != shape]
    if other:
        name = other[0]
        raise SystemExit(
            f"{file} is of another network than the config: {len(other)} of {len(ours)} weights do "
            f"not fit; {name} is {ours[name]} here and {theirs.get(name, 'missing')} there"
        )
    gates = [name for name in theirs if is_new(name) and name not in model.state_dict()]
    if gates:
        raise SystemExit(
            f"{file} is of a dynamic network, and the config's has no {gates[0]}: without its "
            "gates it would answer otherwise; give the config that it was trained with"
        )
    return loaded.get("meta") or {}


def is_new(name: str) -> bool:
    """Whether the static network lacks this weight."""
    return any(key in name for key in NEW_KEYS)
