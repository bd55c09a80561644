"""From a config and a checkpoint to the record of what the model does on the test set."""

from __future__ import annotations

import copy
import hashlib
import platform
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
from vared_mm.report.evaluation_key import digest, settings_digest, weights_digest
from vared_mm.report.evaluation_loop import ResumableTestLoop
from vared_mm.report.kept_chunks import remove_others
from vared_mm.report.result import Result, write_result, write_samples
from vared_mm.settings import kind
from vared_mm.weights import CheckedRunner

PACKAGES = (
    "torch", "numpy", "mmengine", "mmcv", "mmcv-lite", "mmaction2", "mmsegmentation", "mmdet",
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
        """Of the places of config and checkpoint and of the options: a checkpoint that is
        overwritten and evaluated again is no second model."""
        places = [str(Path(file).resolve()) for file in (self.file, self.checkpoint)]
        told = digest(places, self.options)
        return self.out / self.name / f"{self.checkpoint.stem}-{told[:8]}"


def evaluate(config: Config, job: Job) -> tuple[Runner, Result | None]:
    """Runs or finishes an evaluation; the main process writes its files and has the result."""
    folder = job.folder
    runner = CheckedRunner.from_cfg(prepared(config, job, folder))
    metrics = runner.test()
    if not is_main_process():
        return runner, None
    result = record(runner, job, metrics, settings_digest(config))
    write_samples(folder, runner.test_loop.samples)
    write_result(folder, result)
    remove_others(runner.test_loop.folder)
    return runner, result


def prepared(config: Config, job: Job, folder: Path) -> Config:
    """The config for one evaluation into `folder`, with what counts and shows it."""
    given, config = config, copy.deepcopy(config)
    for part in ("test_dataloader", "test_evaluator"):
        if not config.get(part):
            raise ValueError(f"{job.file} has no {part}, which tells what to evaluate on and by")
    loop = {"type": "TestLoop", **(config.get("test_cfg") or {})}
    if kind(loop) != "TestLoop":
        raise ValueError(
            f"test_cfg has a {kind(loop)}; wanted TestLoop, in whose place chunks are run"
        )
    config.custom_hooks = with_types(
        config.get("custom_hooks"), "CostHook", "ProgressBarHook", "FiniteScoresHook"
    )
    config.test_evaluator = with_types(config.test_evaluator, "CostMetric")
    config.load_from, config.resume, config.work_dir = str(job.checkpoint), False, str(folder)
    # One process may evaluate several checkpoints, and mmengine keeps loggers by name.
    config.experiment_name = uuid.uuid4().hex
    if "visualizer" in config:
        config.visualizer.name = config.experiment_name
    config.test_cfg = {
        **(config.get("test_cfg") or {}),
        "type": "ResumableTestLoop",
        "key": key(given, job),
        "folder": str(folder / "chunks"),
        "chunk": job.chunk,
        "classes": job.classes,
    }
    return config


def with_types(present: Any, *kinds: str) -> list[Any]:
    """The list of a config, with those of the types that it lacks."""
    entries = [present] if isinstance(present, dict) else list(present or [])
    there = {kind(entry) for entry in entries if isinstance(entry, dict)}
    return [*entries, *(dict(type=name) for name in kinds if name not in there)]


def key(config: Config, job: Job) -> str:
    """Of everything beside data and code that chunks of one evaluation have in common."""
    weights = hashlib.sha256(job.checkpoint.read_bytes()).hexdigest()
    return digest(settings_digest(config), weights, device(), packages())


def record(runner: Runner, job: Job, metrics: dict[str, Any], settings: str) -> Result:
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
        weights=weights_digest(unwrapped(runner.model).state_dict()),
        settings=settings,
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
