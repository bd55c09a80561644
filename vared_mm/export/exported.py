"""From a trained dynamic network to files that other engines run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from vared_mm.export.one_graph import export_graph, refuse_gates
from vared_mm.export.one_policy import export_policy
from vared_mm.export.policy import policy_named, refuse_no_gates
from vared_mm.export.several_policies import export_policies
from vared_mm.export.trained import Settings, refuse_rivals, trained
from vared_mm.flops import build_model


def export(config: Config, checkpoint: str, out: Path, settings: Settings) -> dict[str, Any]:
    """Writes what `settings` ask for, and tells what it is worth.

    Args:
        out: The file; with `settings.policies` a folder.

    Returns:
        What `vared-mm export --json` writes.

    Raises:
        ValueError: It cannot be made as wanted.
        EngineError: Packages of the target are not installed.
        DifferentFunctionError: A file answers something else than its network in torch.
    """
    settings.target.check()
    model = build_model(config, checkpoint)
    refuse_rivals(model)
    write: Callable[..., dict[str, Any]]
    if settings.policies:
        refuse_no_gates(f"--policies is {settings.policies}", model)
        write = export_policies
    elif settings.policy == "dynamic":
        refuse_gates(model)
        write = export_graph
    else:
        write = partial(export_policy, policy_named(settings.policy, model))
    of = trained(model, config, settings.clips)
    out.parent.mkdir(parents=True, exist_ok=True)
    return write(of, out, settings)
