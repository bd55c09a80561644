"""A part of a checkpoint, read by its prefix, keeps what torch tells of the modules in it.

`init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')` is how a trunk comes into a
detector. mmengine 0.10 makes a plain dict of the weights that have the prefix, without the metadata
in which modules tell their versions, and ours the settings that change their answers.
"""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType
from typing import Any

from .after_import import after_import
from .cure import Cure, installed_source

MODULE, FUNCTION = "mmengine.runner.checkpoint", "_load_checkpoint_with_prefix"


def rebind(module: ModuleType) -> None:
    """Exchange mmengine's function for one that keeps the metadata."""

    def load(prefix: str, filename: str, map_location: Any = None) -> OrderedDict:
        checkpoint = module._load_checkpoint(filename, map_location=map_location)
        whole = checkpoint.get("state_dict", checkpoint)
        prefix = prefix.removesuffix(".") + "."
        state = OrderedDict((k[len(prefix) :], v) for k, v in whole.items() if k.startswith(prefix))
        assert state, f"{prefix} is not in the pretrained model"
        told = {f"{name}.": of for name, of in getattr(whole, "_metadata", {}).items()}
        state._metadata = {  # type: ignore[attr-defined]
            name[len(prefix) : -1]: of for name, of in told.items() if name.startswith(prefix)
        }
        return state

    setattr(module, FUNCTION, load)


def is_needed() -> bool:
    _, _, function = installed_source(MODULE).partition(f"def {FUNCTION}(")
    return bool(function) and "_metadata" not in function.partition("\ndef ")[0]


CURE = Cure(
    name="checkpoint-parts",
    reason="mmengine reads the part of a checkpoint that has a prefix without its metadata, and a "
    "trunk of other settings would be taken without a word",
    is_needed=is_needed,
    apply=lambda: after_import(MODULE.__eq__, rebind),
)
