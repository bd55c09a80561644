"""Checkpoints that an end at any time leaves whole: mmengine removes the former one before it
writes the next, and that into the name that it is to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from vared_mm.files import half_written
from vared_mm.screen import QuietRunner


class SavingRunner(QuietRunner):
    """mmengine's, which has one whole checkpoint at least from the first one on."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **settings: Any) -> None:
        # All processes gather what is saved, one writes it; what is no folder here has no names.
        if "://" in str(out_dir) or not is_main_process():
            super().save_checkpoint(out_dir, filename, *args, **settings)
            return
        with half_written(Path(out_dir, filename)) as half:
            super().save_checkpoint(str(half.parent), half.name, *args, **settings)

    def register_hook(self, hook: Any, *args: Any, **settings: Any) -> None:
        super().register_hook(hook, *args, **settings)
        for one in self.hooks:
            if type(one) is CheckpointHook:
                one.__class__ = KeepingHook


class KeepingHook(CheckpointHook):
    """Removes a checkpoint when what takes its place is there."""

    def _save_checkpoint_with_step(self, *args: Any, **settings: Any) -> None:
        with removing_later(self):
            super()._save_checkpoint_with_step(*args, **settings)

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        named = self.key_indicators if self.save_best else []
        if missing := [key for key in named if key != "auto" and key not in metrics]:
            raise ValueError(
                f"save_best names {missing[0]!r}, which the validation does not measure; wanted "
                f"one of {sorted(metrics)}"
            )
        with removing_later(self):
            super()._save_best_checkpoint(runner, metrics)


class Later:
    """A file backend that writes down what it is to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.gone: list[tuple[str, Callable[[], None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.gone.append((str(path), partial(self.backend.remove, path)))

    def rmtree(self, path: str) -> None:
        self.gone.append((str(path), partial(self.backend.rmtree, path)))


@contextmanager
def removing_later(hook: CheckpointHook) -> Iterator[None]:
    """What the hook removes within goes at the end, if nothing fails before."""
    backend = hook.file_backend
    hook.file_backend = later = Later(backend)
    try:
        yield
    finally:
        hook.file_backend = backend
    # A step that was evaluated once more is saved by the name that it had.
    best = {
        getattr(hook, "best_ckpt_path", None),
        *getattr(hook, "best_ckpt_path_dict", {}).values(),
    }
    for path, remove in later.gone:
        if path not in {hook.last_ckpt, *best}:
            remove()
