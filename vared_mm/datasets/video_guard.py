"""Names the video that cannot be read, and can leave such videos out of a training."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

BROKEN = ("raise", "skip")


class BrokenVideoError(RuntimeError):
    """A video file that is missing, empty or not to be decoded."""


@DATASETS.register_module()
class VaRedVideoGuard(RepeatDataset):
    """A video data set whose broken files are named, and skipped and counted on request.

    Args:
        dataset: Any data set of mmengine whose samples have a `filename`.
        broken: "raise" stops with a `BrokenVideoError`; "skip" takes the next readable sample
            instead, for training alone.
        pipeline: That of the data set, if its config does not hold one; MMAction2's inferencer
            looks for it in the outermost data set.
    """

    def __init__(
        self,
        dataset: BaseDataset | Mapping[str, Any],
        broken: str = "raise",
        pipeline: list[Any] | None = None,
    ) -> None:
        if broken not in BROKEN:
            raise ValueError(f"broken is {broken!r}; wanted one of {BROKEN}")
        if pipeline is not None and isinstance(dataset, Mapping):
            dataset = {**dataset, "pipeline": pipeline}
        super().__init__(dataset, times=1)
        if broken == "skip" and self.dataset.test_mode:
            raise ValueError(
                "broken='skip' would evaluate another video in place of a broken one; use it for "
                "training, and take broken videos out of the test annotations"
            )
        self.broken = broken
        # Shared memory, as the workers of a data loader find what the main process reports.
        self._skipped = multiprocessing.RawArray("b", len(self))

    @property
    def skipped(self) -> list[str]:
        """The files found broken so far, by any worker."""
        return [self.get_data_info(i)["filename"] for i, bad in enumerate(self._skipped) if bad]

    def __getitem__(self, index: int) -> Any:
        for candidate in range(index, index + len(self)):
            sample = candidate % len(self)
            if not self._skipped[sample]:
                try:
                    return super().__getitem__(sample)
                except Exception as error:
                    self._judge(sample, error)
        raise BrokenVideoError(f"none of the {len(self)} videos of the data set can be read")

    def _judge(self, sample: int, error: Exception) -> None:
        """Passes over a broken video if told to; whatever else went wrong is raised."""
        filename = self.get_data_info(sample)["filename"]
        fault = fault_of(filename)
        if fault is None:
            raise error
        if self.broken == "raise":
            raise BrokenVideoError(
                f"{filename} {fault}; take it out of the annotations, or train with "
                "broken='skip' in VaRedVideoGuard"
            ) from error
        self._skipped[sample] = 1
        count = sum(self._skipped)
        print_log(
            f"skipped {filename}, which {fault}; {count} of {len(self)} videos so far",
            "current",
            # mmengine shows nothing less of the processes behind the first one.
            logging.ERROR,
        )


def fault_of(filename: str) -> str | None:
    """What is wrong with a video file, or None; decodes all of it, where decord is installed."""
    path = Path(filename)
    if path.is_dir():
        return "is a folder"
    if not path.is_file():
        return "does not exist"
    if not path.stat().st_size:
        return "is empty (0 bytes)"
    try:
        import decord
    except ImportError:
        return None
    try:
        reader = decord.VideoReader(filename, num_threads=1)
        for frame in range(len(reader)):
            reader[frame]
    except Exception as error:
        return f"cannot be decoded ({str(error).splitlines()[0]})"
    return "holds no frame" if not len(reader) else None
