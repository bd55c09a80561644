"""A progress bar for training, validation and test, on the terminal alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows how far the run is, with the latest loss and share of MACs."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @master_only
    def _start(self, what: str, total: int, done: int = 0) -> None:
        self._stop()
        console = Console(stderr=True)
        if not console.is_terminal:
            return
        bar = "{task.completed:.0f}/{task.total:.0f}"
        columns: tuple[Any, ...] = (
            SpinnerColumn(),
            "{task.description}",
            *Progress.get_default_columns()[1:3],
        )
        self._progress = Progress(
            *columns,
            TextColumn(bar),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._progress.start()
        self._task = self._progress.add_task(what, total=total, completed=done, note="")

    @master_only
    def _step(self, note: str = "") -> None:
        if self._progress is not None:
            self._progress.update(self._task, advance=1, note=note)

    @master_only
    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def before_train_epoch(self, runner: Runner) -> None:
        self._start("train", runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self._progress is None:
            # Training by iterations starts one epoch alone, and validation ends its bar.
            self._start("train", runner.max_iters, runner.iter)
        shown = {name: (outputs or {}).get(name) for name in ("loss", "mac_share")}
        self._step(
            "  ".join(
                f"{n} {float(torch.as_tensor(v).detach()):.3f}"
                for n, v in shown.items()
                if v is not None
            )
        )

    def before_val_epoch(self, runner: Runner) -> None:
        self._start("val", len(runner.val_dataloader))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        self._step()

    def before_test_epoch(self, runner: Runner) -> None:
        self._start("test", len(runner.test_dataloader))

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._stop()

    after_test_epoch = after_val_epoch

    def after_train(self, runner: Runner) -> None:
        self._stop()

    after_run = after_train
