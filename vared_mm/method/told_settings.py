"""Settings in checkpoints: those that change the answers, and that no weight's shape tells.

They stand in the metadata of the state dict, where torch keeps the version of each module:
checkpoints have no key more, and those without them are read as before.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from torch import nn

from vared_mm.method.errors import DynamicError

KEY = "vared_mm"


def keep_settings(module: nn.Module) -> None:
    """What the module's `told_settings()` says goes into its checkpoints, and others are refused.

    It answers with numbers, texts and tuples by name.
    """
    module._register_state_dict_hook(_tell)
    module._register_load_state_dict_pre_hook(_refuse_others, with_module=True)


def _tell(module: Any, state: Any, prefix: str, metadata: MutableMapping[str, Any]) -> None:
    metadata[KEY] = module.told_settings()


def _refuse_others(
    module: Any, state: Any, prefix: str, metadata: MutableMapping[str, Any], *_: Any
) -> None:
    # mmengine turns what torch raises at the end of loading into warnings.
    theirs, ours = metadata.get(KEY, {}), module.told_settings()
    if other := [name for name, value in theirs.items() if ours.get(name, value) != value]:
        name = other[0]
        raise DynamicError(
            f"{prefix.removesuffix('.') or 'the network'} of the checkpoint was trained with "
            f"{name}={theirs[name]!r}, and the model has {name}={ours[name]!r}; give it that one"
        )
