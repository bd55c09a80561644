"""From a config and a checkpoint to the record of what the model does on the test set."""

from __future__ import annotations

import copy
import hashlib
import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import nn

from vared_mm.engine.around_forward import unwrapped
from vared_mm.method.frozen import leaders_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.choices import Choices, choices_of, judge, verdict
from vared_mm.report.evaluation_choices import with_other_choices
from vared_mm.report.evaluation_key import digest, settings_digest
from vared_mm.report.evaluation_loop import ResumableTestLoop
from vared_mm.report.evaluation_record import device, packages, recorded
from vared_mm.report.kept_chunks import remove_others
from vared_mm.report.policies import by_gate
from vared_mm.report.policy_of_share import part_of
from vared_mm.report.result import (
    Result,
    ResultError,
    Samples,
    read_result,
    write_result,
    write_samples,
)
from vared_mm.report.same_model import filled
from vared_mm.runners import CheckedRunner
from vared_mm.settings import kind


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint to evaluate.

    Args:
        file: The config's.
        options: What was changed in it.
        chunk: Samples after which an interrupted evaluation goes on.
        classes: Their names, where the data set does not tell them.
        deals: How often choices are dealt to other samples, to tell what they are worth; 0 to run
            the model with its own alone.
    """

    file: str
    options: dict[str, Any]
    checkpoint: Path
    out: Path
    chunk: int = 64
    classes: tuple[str, ...] | None = None
    deals: int = 0

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


def evaluate(config: Config, job: Evaluation) -> tuple[Runner, Result | None]:
    """Runs or finishes an evaluation; the main process writes its files and has the result."""
    folder = job.folder
    runner = CheckedRunner.from_cfg(resumable(config, job, folder))
    metrics = runner.test()
    loop = cast(ResumableTestLoop, runner.test_loop)
    others = with_other_choices(loop, job.deals) if job.deals else None
    if not is_main_process():
        return runner, None
    result = recorded(
        runner, metrics, config=job.file, options=job.options, checkpoint=str(job.checkpoint),
        settings=settings_digest(config), task=loop.task, data=loop.data,
        choices=told_choices(unwrapped(runner.model), loop.samples, others, folder),
    )  # fmt: skip
    result = with_former(result, folder)
    write_samples(folder, loop.samples)
    write_result(folder, result)
    remove_others(loop.folder)
    return runner, result


def told_choices(
    model: nn.Module, samples: Samples, others: tuple[np.ndarray, np.ndarray] | None, folder: Path
) -> Choices | None:
    """`others` as `with_other_choices` tells it, if it was asked."""
    if samples.policies is None or samples.loss is None:
        return None
    taken = share_of_first(model, samples)
    choices = choices_of(samples.share, samples.loss, samples.policies, taken)
    if others and (judged := judge(samples.correct, *others)):
        freeze = shlex.join(["vared-mm", "freeze", str(folder), "frozen.pth"])
        shares = float(samples.share.mean()), choices["policy_share"]
        choices |= {"judged": judged, "verdict": verdict(judged, freeze, *shares)}
    return choices


def share_of_first(model: nn.Module, samples: Samples) -> float:
    """What the most frequent policy takes of the MACs. The samples that chose it do not tell: of
    their views and windows others may have chosen another one."""
    assert samples.policies is not None
    assert samples.layer_frames is not None
    convs, leaders = dynamic_convs(model), leaders_of(model)
    first = by_gate(samples.policies.names, samples.policies.answers[0])
    parts = []
    for name, frames in zip(samples.layer_names.tolist(), samples.layer_frames, strict=True):
        axes = convs[leaders[name]].axes
        largest = (first[leaders[name]].reshape(len(axes), -1) > 0).argmax(1)
        parts.append(part_of(convs[name], dict(zip(axes, largest, strict=True)), frames))
    return float(np.average(parts, weights=samples.layer_dense.mean(0)))


def with_former(result: Result, folder: Path) -> Result:
    """The result, `filled` from the one in `folder`: what took long is not lost to an evaluation
    that does not ask for it."""
    try:
        former = read_result(folder)
    except ResultError:
        return result
    return filled(result, former) if about(former) == about(result) else result


def about(result: Result) -> tuple[str | None, ...]:
    """Alike where an evaluation is of the same network on the same data."""
    return result.weights, result.settings, result.data.fingerprint


def resumable(config: Config, job: Evaluation, folder: Path) -> Config:
    """The config for one evaluation into `folder`, with what counts and shows it."""
    given, config = config, copy.deepcopy(config)
    for part in ("test_dataloader", "test_evaluator"):
        if not config.get(part):
            raise ValueError(f"{job.file} has no {part}, which tells what to evaluate on and by")
    if (loop := kind({"type": "TestLoop", **(config.get("test_cfg") or {})})) != "TestLoop":
        raise ValueError(f"test_cfg has a {loop}; wanted TestLoop, in whose place chunks are run")
    config.custom_hooks = with_types(
        config.get("custom_hooks"), "CostHook", "ProgressBarHook", "FiniteScoresHook"
    )
    config.test_evaluator = with_types(config.test_evaluator, "CostMetric")
    config.load_from, config.resume, config.work_dir = str(job.checkpoint), False, str(folder)
    # Chunks are of all samples.
    config.test_dataloader.drop_last = False
    # One process may evaluate several checkpoints, and mmengine keeps loggers by name.
    config.experiment_name = uuid.uuid4().hex
    if "visualizer" in config:
        config.visualizer.name = config.experiment_name
    config.test_cfg = {
        **(config.get("test_cfg") or {}),
        "type": "ResumableTestLoop",
        "key": chunk_key(given, job),
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


def chunk_key(config: Config, job: Evaluation) -> str:
    """Of everything beside data and code that chunks of one evaluation have in common."""
    weights = hashlib.sha256(job.checkpoint.read_bytes()).hexdigest()
    return digest(settings_digest(config), weights, device(), packages())
