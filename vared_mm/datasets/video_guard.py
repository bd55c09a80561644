"""Names the video that cannot be read, and can leave such videos out of a training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from vared_mm.datasets.video_faults import fault_in, place_of
from vared_mm.datasets.video_faults import fault_of as fault_of
from vared_mm.datasets.wrappers import give_pipeline, info_of, with_pipeline
from vared_mm.settings import within

BROKEN = ("raise", "skip")


class BrokenVideoError(RuntimeError, ValueError):
    """A video that is missing, empty or not to be decoded."""


@DATASETS.register_module()
class VaRedVideoGuard(BaseDataset):
    """A video data set whose broken files are named, and skipped and counted on request.

    Whatever else a data set is asked for, the one inside answers.

    Args:
        dataset: Any data set, built or its settings, also a wrapper around others. Its samples tell
            a `filename` or, of frames, a `frame_dir`.
        broken: "raise" stops with a `BrokenVideoError`; "skip" takes the next readable sample
            instead, for training alone.
        pipeline: That of each data set inside, in place of what its settings hold; MMAction2's
            inferencer looks for it in the outermost data set.

    Raises:
        ValueError: `others` are given, which are settings of the data set within.
    """

    _fully_initialized: bool

    def __init__(
        self,
        dataset: Any,
        broken: str = "raise",
        pipeline: list[Any] | None = None,
        **others: Any,
    ) -> None:
        if others:
            # As `--cfg-options test_dataloader.dataset.ann_file=...` gives them to the outermost.
            named = ", ".join(f"dataset.dataset.{name}" for name in others)
            raise ValueError(
                f"VaRedVideoGuard takes no {', '.join(others)}: a setting of the data set within "
                f"it stands one dataset deeper, as {named}"
            )
        if broken not in BROKEN:
            raise ValueError(f"broken is {broken!r}; wanted one of {BROKEN}")
        if isinstance(dataset, Mapping):
            dataset = DATASETS.build(with_pipeline(dataset, pipeline) if pipeline else dataset)
        elif pipeline:
            give_pipeline(dataset, pipeline)
        if isinstance(dataset, str) or not hasattr(dataset, "__len__"):
            raise TypeError(f"dataset is {dataset!r}; wanted a data set or its settings")
        self.dataset = dataset
        if broken == "skip" and self.test_mode:
            raise ValueError(
                "broken='skip' would evaluate another video in place of a broken one; use it for "
                "training, and take broken videos out of the test annotations"
            )
        self.broken = broken
        self.full_init()

    def full_init(self) -> None:
        if not self._fully_initialized:
            if hasattr(self.dataset, "full_init"):
                self.dataset.full_init()
            # Shared memory, as the workers of a data loader find what the main process reports.
            self._skipped = torch.zeros(len(self.dataset), dtype=torch.bool).share_memory_()
            self._fully_initialized = True

    def __getattr__(self, name: str) -> Any:
        # A copy in the making has no data set yet, and a data loader would go past the guard by the
        # `__getitems__` of the one inside.
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._skipped.share_memory_()

    @property
    def metainfo(self) -> dict:
        return copy.deepcopy(getattr(self.dataset, "metainfo", {}))

    @property
    def test_mode(self) -> bool:
        return any(getattr(part, "test_mode", False) for part in within(self.dataset))

    @property
    def pipeline(self) -> Any:
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self.dataset.pipeline = pipeline

    def prepare_data(self, idx: int) -> Any:
        return self.dataset.prepare_data(idx)

    def get_data_info(self, idx: int) -> dict:
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        return self.dataset.get_cat_ids(idx)

    def get_subset(self, indices: Sequence[int] | int) -> VaRedVideoGuard:
        return type(self)(self.dataset.get_subset(indices), self.broken)

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        self.dataset.get_subset_(indices)
        self._fully_initialized = False
        self.full_init()

    @property
    def skipped(self) -> list[str]:
        """The files found broken so far, by any worker."""
        found = [self._named(int(i)) for i in self._skipped.nonzero()]
        return list(dict.fromkeys(found))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        for candidate in range(int(index), int(index) + len(self)):
            sample = candidate % len(self)
            if not self._skipped[sample]:
                try:
                    return self.dataset[sample]
                except Exception as error:
                    self._judge(sample, error)
        raise BrokenVideoError(f"none of the {len(self)} videos of the data set can be read")

    def _judge(self, sample: int, error: Exception) -> None:
        """Passes over a broken video if told to; whatever else went wrong is raised."""
        fault, name = fault_in(self._info(sample), error), self._named(sample)
        if fault is None:
            # Python 3.10 has no notes.
            getattr(error, "add_note", bool)(f"sample {sample} of the data set is {name}")
            raise error
        if self.broken == "raise":
            raise BrokenVideoError(
                f"{name} {fault}; take it out of the annotations, or train with "
                "broken='skip' in VaRedVideoGuard"
            ) from error
        self._skipped[sample] = True
        count = int(self._skipped.sum())
        print_log(
            f"skipped {name}, which {fault}; {count} of {len(self)} videos so far",
            "current",
            # mmengine shows nothing less of the processes behind the first one.
            logging.ERROR,
        )

    def _info(self, sample: int) -> Mapping[str, Any]:
        try:
            return info_of(self.dataset, sample)
        # What is asked for in an error's name shall not take that error's place.
        except Exception:
            return {}

    def _named(self, sample: int) -> str:
        return place_of(self._info(sample)) or f"sample {sample}"
