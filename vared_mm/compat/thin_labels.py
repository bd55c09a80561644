"""MMSegmentation squeezes label images, and those of a single row or column lose it.

Their labels then have one dimension or none, and packing fails with "The dim of value must be 2 or
3, but got 0".
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .after_import import after_import
from .cure import Cure, installed_source

LOADING = "mmseg.datasets.transforms.loading"


def keep_rows(module: ModuleType) -> None:
    """Gives such labels the picture's shape again."""
    loader = vars(module)["LoadAnnotations"]
    load = loader._load_seg_map

    def load_seg_map(self: Any, results: dict[str, Any]) -> None:
        load(self, results)
        if results["gt_seg_map"].ndim < 2:
            results["gt_seg_map"] = results["gt_seg_map"].reshape(results["ori_shape"])

    loader._load_seg_map = load_seg_map


def is_needed() -> bool:
    """Whether label images are still squeezed."""
    return ".squeeze()" in installed_source(LOADING)


CURE = Cure(
    name="thin-labels",
    reason="mmseg squeezes label images, so that those of one row, one column or one pixel fail",
    is_needed=is_needed,
    apply=lambda: after_import(LOADING.__eq__, keep_rows),
)
