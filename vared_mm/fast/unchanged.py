"""What is packed does not follow what a prepared model is changed to: changes are refused.

Writes through `.data`, which torch keeps no record of, and modules put in the place of others are
not noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

LINE = 64
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


class Held(dict):
    """The parameters or buffers of a module by name, which keeps them."""

    def __setitem__(self, name: str, tensor: Tensor | None) -> None:
        # Others may be added.
        refuse(name) if name in self else super().__setitem__(name, tensor)

    def __delitem__(self, name: str) -> NoReturn:
        refuse(name)

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)


class Unchanged:
    """The parameters and statistics of `module` as they are now: others are refused at once.

    They become views of one memory for each device, whose version tells whether one was written
    into. To look at hundreds of tensors, which no cache holds, would take as long in each pass as
    some convolutions.
    """

    def __init__(self, module: nn.Module) -> None:
        modules = list(module.modules())
        held: list[dict[str, Any]] = [h for m in modules for h in (m._parameters, m._buffers)]
        named = [(h, name, t) for h in held for name, t in h.items() if _is_read(name, t)]
        tensors = {id(t): t for _, _, t in named}
        kept: dict[int, Tensor] = {}
        self._memories = []
        for device in {t.device for t in tensors.values()}:
            there = {key: t for key, t in tensors.items() if t.device == device}
            # Tensors that are made in inference mode have no version.
            with torch.inference_mode(False), torch.no_grad():
                memory, views = laid_together(list(there.values()))
            self._memories.append(memory)
            kept |= zip(there, views, strict=True)
        for own, name, tensor in named:
            own[name] = kept[id(tensor)]
        for m in modules:
            m._parameters, m._buffers = Held(m._parameters), Held(m._buffers)
        self._versions = [memory._version for memory in self._memories]
        self._views = list(kept.values())
        self._places = list(map(Tensor.data_ptr, self._views))

    def refuse_others(self) -> None:
        """Raises `RuntimeError` where one was written into, or given other data."""
        written = [memory._version for memory in self._memories] != self._versions
        if written or list(map(Tensor.data_ptr, self._views)) != self._places:
            refuse("a parameter or buffer")


def refuse(what: str) -> NoReturn:
    raise RuntimeError(
        f"{what} of a prepared model was changed, which what is packed does not follow; "
        f"{MAKE_ANOTHER}"
    )


def _is_read(name: str, held: Any) -> bool:
    plain = type(held) in (Tensor, nn.Parameter) and held.layout == torch.strided
    return plain and name != "num_batches_tracked"


def laid_together(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Memory, and a view of it for each tensor of one device, of which it is a copy."""
    places, size = [], 0
    for tensor in tensors:
        places.append(size)
        # Each from the beginning of a cache line on.
        size += math.ceil(tensor.nbytes / LINE) * LINE
    memory = torch.empty(size, dtype=torch.uint8, device=tensors[0].device)
    views = []
    for tensor, place in zip(tensors, places, strict=True):
        own = memory[place : place + tensor.nbytes].view(tensor.dtype)
        dense = torch.empty_like(tensor, device="meta").stride()
        view = own.as_strided(tensor.shape, dense).copy_(tensor)
        views.append(nn.Parameter(view, False) if type(tensor) is nn.Parameter else view)
    return memory, views
