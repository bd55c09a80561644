"""From a config and a checkpoint to the record of what the model does on the test set."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

import vared_mm
from vared_mm.engine.around_forward import unwrapped
from vared_mm.engine.cost_hook import cost_report
from vared_mm.fast.benchmark import processor_name
from vared_mm.report.evaluation_loop import ResumableTestLoop
from vared_mm.report.result import Result, write_result, write_samples

PACKAGES = (
    "torch", "numpy", "mmengine", "mmcv", "mmcv-lite", "mmaction2", "mmsegmentation", "mmdet",
)  # fmt: skip
# Of a config, what decides how the metrics come out.
DECISIVE = (
    "default_scope", "custom_imports", "model", "test_dataloader", "test_evaluator", "test_cfg",
    "custom_hooks", "randomness",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A checkpoint to evaluate.

    Args:
        file: The config's.
        options: What was changed in it.
        chunk: Samples after which an interrupted evaluation goes on.
        classes: Their names, where the data set does not tell them.
    """

    file: str
    options: dict[str, Any]
    checkpoint: Path
    out: Path
    chunk: int = 64
    classes: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def folder(self) -> Path:
        """Of the checkpoint's place and the options: a checkpoint that is overwritten and evaluated
        again is no second model."""
        told = [str(self.checkpoint.resolve()), self.options]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
        return self.out / self.name / f"{self.checkpoint.stem}-{digest[:8]}"


def evaluate(config: Config, job: Job) -> tuple[Runner, Result | None]:
    """Runs or finishes an evaluation; the main process writes its files and has the result."""
    folder = job.folder
    runner = Runner.from_cfg(prepared(config, job, folder))
    metrics = runner.test()
    if not is_main_process():
        return runner, None
    result = record(runner, job, metrics)
    write_samples(folder, runner.test_loop.samples)
    write_result(folder, result)
    for other in (folder / "chunks").iterdir():
        if other != runner.test_loop.folder:
            shutil.rmtree(other)
    return runner, result


def prepared(config: Config, job: Job, folder: Path) -> Config:
    """The config for one evaluation into `folder`, with what counts and shows it."""
    config = copy.deepcopy(config)
    for part in ("test_dataloader", "test_evaluator"):
        if not config.get(part):
            raise ValueError(f"{job.file} has no {part}, which tells what to evaluate on and by")
    if (kind := (config.get("test_cfg") or {}).get("type", "TestLoop")) != "TestLoop":
        raise ValueError(f"test_cfg has a {kind}; wanted TestLoop, in whose place chunks are run")
    config.custom_hooks = with_types(config.get("custom_hooks"), "CostHook", "ProgressBarHook")
    config.test_evaluator = with_types(config.test_evaluator, "CostMetric")
    config.load_from, config.resume, config.work_dir = str(job.checkpoint), False, str(folder)
    # One process may evaluate several checkpoints, and mmengine keeps loggers by name.
    config.experiment_name = uuid.uuid4().hex
    if "visualizer" in config:
        config.visualizer.name = config.experiment_name
    config.test_cfg = {
        **(config.get("test_cfg") or {}),
        "type": "ResumableTestLoop",
        "key": key(config, job),
        "folder": str(folder / "chunks"),
        "chunk": job.chunk,
        "classes": job.classes,
    }
    return config


def with_types(present: Any, *kinds: str) -> list[Any]:
    """The list of a config, with those of the types that it lacks."""
    entries = [present] if isinstance(present, dict) else list(present or [])
    there = {entry["type"] for entry in entries if isinstance(entry, dict)}
    return [*entries, *(dict(type=kind) for kind in kinds if kind not in there)]


def key(config: Config, job: Job) -> str:
    """Of everything beside the data that chunks of one evaluation have in common."""
    parts = {name: config.get(name) for name in DECISIVE}
    loader = dict(parts["test_dataloader"])
    for name in ("num_workers", "persistent_workers"):
        loader.pop(name, None)
    weights = hashlib.sha256(job.checkpoint.read_bytes()).hexdigest()
    told = [{**parts, "test_dataloader": loader}, weights, device(), packages(), commit()]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def record(runner: Runner, job: Job, metrics: dict[str, Any]) -> Result:
    loop = cast(ResumableTestLoop, runner.test_loop)
    report = cost_report(runner, metrics)
    numbers = {k: float(v) for k, v in report["metrics"].items() if isinstance(v, int | float)}
    return Result(
        name=job.name,
        config=job.file,
        options=job.options,
        checkpoint=str(job.checkpoint),
        commit=commit(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        task=loop.task,
        data=loop.data,
        device=device(),
        threads=torch.get_num_threads(),
        packages=packages(),
        parameters=sum(p.numel() for p in unwrapped(runner.model).parameters()),
        metrics=numbers,
        cost=report["cost"],
        speed=None,
    )


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()


def packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


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
