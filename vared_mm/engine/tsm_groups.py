"""Gates and cheap operations under MMAction2's `TSMOptimWrapperConstructor`.

It goes by the type of each module, refuses those that it does not know, and takes the first two
parameters of a convolution for all that it has. The configs of TSM, TANet and TRN name it.
"""

from __future__ import annotations

import logging
from functools import wraps
from types import ModuleType
from typing import Any

from mmengine.logging import print_log
from torch import nn

from vared_mm.compat.after_import import after_import
from vared_mm.method.gate import Gate
from vared_mm.method.observe import dynamic_convs


def apply() -> None:
    """Teaches it our modules, once it is imported."""
    name = "mmaction.engine.optimizers.tsm_optim_wrapper_constructor"
    after_import(lambda module: module == name, _teach)


def _teach(module: ModuleType) -> None:
    kind = module.TSMOptimWrapperConstructor
    original = kind.add_params

    @wraps(original)
    def add_params(self: Any, params: list[dict], model: nn.Module, **kwargs: Any) -> None:
        convs = dynamic_convs(model).values()
        ours = [(conv, name, conv._modules.pop(name)) for conv in convs for name in PARTS]
        try:
            original(self, params, model, **kwargs)
        finally:
            for conv, name, part in ours:
                conv._modules[name] = part
        params += param_groups([part for *_, part in ours if part is not None], self)
        if ours and (keys := self.paramwise_cfg.get("custom_keys")):
            print_log(
                f"TSMOptimWrapperConstructor passes over paramwise_cfg.custom_keys, {[*keys]}: "
                "gates have the rate of other layers, and their bias no decay. Take "
                "MergedGroupsConstructor to set them", "current", logging.WARNING,
            )  # fmt: skip

    kind.add_params = add_params


PARTS = ("gate", "cheap")


def param_groups(parts: list[nn.Module], constructor: Any) -> list[dict[str, Any]]:
    """Weights as those of other layers; the gates' norm and bias without decay, as norms are."""
    learning = dict.fromkeys(p for part in parts for p in part.parameters() if p.requires_grad)
    gates = [m for part in parts for m in part.modules() if isinstance(m, Gate)]
    free = {p for gate in gates for p in (gate.beta, *gate.norm.parameters())}
    return [
        {"params": own, "lr": constructor.base_lr, "weight_decay": decay}
        for own, decay in (
            ([p for p in learning if p not in free], constructor.base_wd),
            ([p for p in learning if p in free], 0),
        )
        if own
    ]
