"""The record of a model that was tested: where it is from, on what and with which numbers."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

import vared_mm
from vared_mm.engine.around_forward import unwrapped
from vared_mm.engine.cost_hook import cost_report
from vared_mm.fast.benchmark import processor_name
from vared_mm.report.evaluation_key import weights_digest
from vared_mm.report.evaluation_samples import describe, known_classes, task_of
from vared_mm.report.result import Result
from vared_mm.report.training_settings import training_of

PACKAGES = (
    "torch", "numpy", "mmengine", "mmcv", "mmcv-lite", "mmaction2", "mmsegmentation", "mmdet",
)  # fmt: skip


def recorded(runner: Runner, metrics: dict[str, Any], **told: Any) -> Result:
    """Of a finished test; `told` is what its runner does not know: the config's file, options and
    `settings_digest`, the checkpoint, the task and the data."""
    report = cost_report(runner, metrics)
    model = unwrapped(runner.model)
    return Result(
        name=Path(told["config"]).stem,
        commit=commit(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        device=device(),
        threads=torch.get_num_threads(),
        packages=packages(),
        parameters=sum(p.numel() for p in model.parameters()),
        metrics={k: float(v) for k, v in report["metrics"].items() if isinstance(v, int | float)},
        cost=report["cost"],
        speed=None,
        weights=weights_digest(model.state_dict()),
        training=training_of(getattr(runner, "loaded_meta", {})),
        **told,
    )


def subject(runner: Runner) -> dict[str, Any]:
    """Task and data of mmengine's own test."""
    dataset: Any = runner.test_loop.dataloader.dataset
    data, _ = describe(dataset, known_classes(dataset, None))
    task = None
    with suppress(ValueError):
        task = task_of(unwrapped(runner.model), runner.default_scope.scope_name)
    return {"task": task, "data": data}


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()


def packages() -> dict[str, str]:
    installed = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    return {"python": platform.python_version(), **installed}


def commit() -> str | None:
    """Of the repository that vared_mm lies in, with `-dirty` where files differ; None without."""
    root = Path(vared_mm.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *describe], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
