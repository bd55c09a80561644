"""A test that can be interrupted: mmengine's, chunk by chunk, and what is done stays done.

A chunk is some samples that follow each other in the data set. What the metrics gathered of it is
kept in one file; when all are there, the first process hands them to the metrics in the order of
the data set, as if one process had run them all.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from vared_mm.compat.safe_checkpoints import allowed
from vared_mm.datasets.video_faults import place_of
from vared_mm.engine.around_forward import augmenting, unwrapped
from vared_mm.engine.check_clip_labels_hook import check_clip_labels
from vared_mm.engine.cost_metric import CostMetric, costs_of
from vared_mm.metrics.localization import FrameResult
from vared_mm.report.evaluation_key import code_digest, digest, times_of
from vared_mm.report.evaluation_samples import (
    SampleAnswers,
    answers,
    describe,
    known_classes,
    samples_from,
    task_of,
)
from vared_mm.report.kept_chunks import in_use, read_whole, write_whole
from vared_mm.report.policies import Gates
from vared_mm.report.result import Samples


@LOOPS.register_module()
class ResumableTestLoop(TestLoop):
    """After `run` the main process has `samples` and their `gates`, and all have `task` and `data`.

    Args:
        folder: Where chunks are kept, one that all processes see.
        key: Of what the results depend on beside data and code: chunks of another key are not read.
        chunk: Samples of a chunk, rounded up to whole batches, so that these are the same ones
            however many processes there are.
        classes: Names of the classes, if the data set does not tell them.
    """

    samples: Samples
    gates: list[Gates]
    dataloader: DataLoader

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Evaluator | dict[str, Any] | list[Any],
        fp16: bool = False,
        folder: str = "",
        key: str = "",
        chunk: int = 64,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        dataset: Any = self.dataloader.dataset
        model = unwrapped(runner.model)
        # Before their names are counted.
        check_clip_labels(model, dataset)
        classes = known_classes(dataset, classes)
        self.task = task_of(model, runner.default_scope.scope_name)
        self.data, self.files = describe(dataset, classes)
        self.answer = answers(self.task, model, classes, augmenting(runner.model) is not None)
        self.evaluator.metrics.append(SampleAnswers(self.answer))
        infos = map(dataset.get_data_info, range(len(dataset)))
        places = [place_of(info) or "" for info in infos]
        # That of the first process, as files of other machines may have other times.
        told = [digest(key, self.data.fingerprint, chunk, code_digest(), times_of(places))]
        broadcast_object_list(told)
        self.folder = Path(folder, told[0][:16])
        if self.dataloader.batch_size is None:
            raise ValueError(
                "the test_dataloader has a batch_sampler; give it a batch_size instead"
            )
        self.batch = self.dataloader.batch_size
        self.chunks = chunks_of(len(dataset), chunk, self.batch)

    def run(self) -> dict[str, float]:
        with in_use(self.folder):
            return self.run_missing()

    def run_missing(self) -> dict[str, float]:
        rank, processes = get_dist_info()
        missing = [i for i in range(len(self.chunks)) if read_whole(self.file(i)) is None]
        # All have to find the same ones missing.
        barrier()
        mine = [i for i in missing if i % processes == rank]
        there = len(self.chunks) - len(missing)
        print_log(f"{there} of {len(self.chunks)} chunks are there already", "current")
        self.dataloader = in_order(self.dataloader, [k for i in mine for k in self.chunks[i]])
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        self.runner.model.eval()
        batches = enumerate(self.dataloader)
        for i in mine:
            for _ in range(math.ceil(len(self.chunks[i]) / self.batch)):
                self.run_iter(*next(batches))
            self.keep(i)
        barrier()
        told = [self.merged() if is_main_process() else {}]
        broadcast_object_list(told)
        self.runner.call_hook("after_test_epoch", metrics=told[0])
        self.runner.call_hook("after_test")
        return told[0]

    def file(self, i: int) -> Path:
        return self.folder / f"{i:05d}.pt"

    def keep(self, i: int) -> None:
        metrics = self.evaluator.metrics
        write_whole(self.file(i), packed_results(metrics))
        for metric in metrics:
            metric.results.clear()

    def merged(self) -> dict[str, float]:
        """All metrics of all chunks."""
        kept = [self.read(i) for i in range(len(self.chunks))]
        whole = [[one for part in parts for one in part] for parts in zip(*kept, strict=True)]
        results_of = list(zip(self.evaluator.metrics, whole, strict=True))
        metrics: dict[str, float] = {}
        for metric, results in results_of:
            prefix = f"{metric.prefix}/" if metric.prefix else ""
            metrics |= {prefix + k: v for k, v in metric.compute_metrics(results).items()}
        told = next(results for metric, results in results_of if isinstance(metric, CostMetric))
        costs = costs_of(told)
        self.samples = samples_from(self.files, whole[-1], costs)
        self.gates = [cost.gates for cost in costs]
        return metrics

    def read(self, i: int) -> list[list[Any]]:
        content = read_whole(self.file(i))
        if content is None:
            raise FileNotFoundError(
                f"there is no {self.file(i)}, which another process wrote, or it is damaged; on "
                "several machines, --out has to be a folder that all of them see"
            )
        with torch.serialization.safe_globals(safe()):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def chunks_of(samples: int, size: int, batch: int) -> list[range]:
    step = batch * math.ceil(size / batch)
    return [range(start, min(start + step, samples)) for start in range(0, samples, step)]


def in_order(loader: DataLoader, samples: Sequence[int]) -> DataLoader:
    """The loader for these samples of its data set alone."""
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=samples,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
    )


def packed_results(metrics: Sequence[BaseMetric]) -> bytes:
    """What the metrics gathered, as `torch.load` reads it without running code of the file."""
    held = io.BytesIO()
    torch.save([metric.results for metric in metrics], held)
    held.seek(0)
    with torch.serialization.safe_globals(safe()):
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(held)
    if unsafe:
        names = [type(metric).__name__ for metric in metrics]
        raise ValueError(
            f"what {', '.join(names[:-1])} gather cannot be kept safely, for it holds "
            f"{', '.join(unsafe)}; call torch.serialization.add_safe_globals on these in a module "
            "that custom_imports names, or leave the metric out"
        )
    return held.getvalue()


def safe() -> list[Any]:
    """What `safe_globals` has to add; what is allowed already it would forbid when it ends."""
    known = torch.serialization.get_safe_globals()
    # Empty arrays are made of `bytes()`, costs of `dict()`.
    wanted = [*allowed(), bytes, dict, FrameResult]
    return [one for one in wanted if one not in known]
