"""`mmaction.CostHook`, `mmdet.VaRedResNet`: our names under the scope of any toolbox.

mmengine looks up a name with a scope among that toolbox's own alone, or finds it in the root
without telling which scope was meant. So each toolbox's registries get what stands in their roots.
This is a feature, not a cure: it is always there.
"""

from __future__ import annotations

from types import ModuleType

from .after_import import after_import


def apply() -> None:
    """For the toolboxes that are imported, and those that will be."""
    after_import(_has_registries, _take_over)


def _has_registries(name: str) -> bool:
    return name.count(".") == 1 and name.endswith(".registry") and name != "mmengine.registry"


def _take_over(module: ModuleType) -> None:
    from mmengine.registry import Registry

    for registry in vars(module).values():
        if isinstance(registry, Registry) and registry.parent is not None:
            for name, one in registry.parent.module_dict.items():
                if one.__module__.startswith("vared_mm.") and name not in registry.module_dict:
                    # A builder of backbones has one of the toolbox that is meant.
                    of_toolbox = getattr(one, "of_toolbox", lambda scope, one=one: one)
                    registry.register_module(name=name, module=of_toolbox(registry.scope))
