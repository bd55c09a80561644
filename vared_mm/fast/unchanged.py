"""What is packed does not follow what a prepared model is changed to: changes are refused.

Edits through `.data`, which torch keeps no record of, and modules put in the place of others are
not noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

MAKE_ANOTHER = "change the model it was made from, and prepare that again"


def refuse_changes(prepared: nn.Module) -> None:
    """Of the whole or of a part: training, other weights, another precision or device."""
    for module in prepared.modules():
        module.train = partial(_train, module)  # type: ignore[method-assign]
        module._apply = partial(_apply, module)  # type: ignore[method-assign]
        module._register_load_state_dict_pre_hook(_load)
    prepared.requires_grad_(False)


def _train(module: nn.Module, mode: bool = True) -> nn.Module:
    if mode:
        raise RuntimeError("a prepared model cannot be trained; train the model it was made from")
    return module


def _load(*_: Any) -> NoReturn:
    raise RuntimeError(f"a prepared model takes no other weights; {MAKE_ANOTHER}")


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    """What `to`, `half`, `share_memory` and the like go through: fine where nothing changes."""
    tensors = chain(module.parameters(), module.buffers())
    for dtype, device in {(t.dtype, t.device) for t in tensors}:
        trial = torch.empty(0, dtype=dtype, device=device)
        if change(trial) is not trial or (device.type == "cpu" and trial.is_shared()):
            raise RuntimeError(
                f"a prepared model stays on its device and in its precision; {MAKE_ANOTHER}"
            )
    return module


class Unchanged:
    """The parameters and statistics of some modules as they are now."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._kept = [
            (held, name, tensor, tensor._version, tensor.data_ptr())
            for module in modules
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None
            and name != "num_batches_tracked"
            # They have no version, and cannot be written into outside inference mode.
            and not tensor.is_inference()
        ]

    def refuse_others(self) -> None:
        """Raises `RuntimeError` where one was written into or exchanged."""
        for held, name, tensor, version, place in self._kept:
            if (
                held.get(name) is not tensor
                or tensor._version != version
                or tensor.data_ptr() != place
            ):
                raise RuntimeError(
                    f"{name} {tuple(tensor.shape)} of a prepared model was changed, which what is "
                    f"packed does not follow; {MAKE_ANOTHER}"
                )
