"""Ends a test whose scores are no numbers: metrics would take a NaN for the best of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor

PREDICTED = ("pred", "seg_logits", "view_scores")
NAMES = ("file", "filename", "img_path", "img_key", "video", "frame_dir")


class NotFiniteError(ValueError):
    """A model answered with NaN or infinite numbers."""


@HOOKS.register_module()
class FiniteScoresHook(Hook):
    """Ends a test with `NotFiniteError`, which names the sample, where a score is no number.

    Metrics would take a NaN for the best of the scores.
    """

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Iterable[Any] | None = None,
    ) -> None:
        for number, sample in enumerate(outputs or ()):
            if odd := next(not_finite(sample), None):
                info = sample.metainfo if isinstance(sample, BaseDataElement) else {}
                name = next((info[key] for key in NAMES if key in info), None)
                raise NotFiniteError(
                    f"{odd} of {name or f'sample {number} of batch {batch_idx}'} holds NaN or "
                    "infinite numbers, which are no scores: did the training diverge?"
                )


def not_finite(sample: Any, inside: str = "") -> Iterator[str]:
    """Names of what is predicted and is not finite."""
    if isinstance(sample, Tensor):
        if sample.is_floating_point() and not bool(torch.isfinite(sample).all()):
            yield inside
    elif isinstance(sample, BaseDataElement | Mapping):
        for name, value in sample.items():
            if inside or str(name).startswith(PREDICTED):
                yield from not_finite(value, f"{inside}.{name}".lstrip("."))
