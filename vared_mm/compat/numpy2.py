"""What numpy 2 took away from under mmaction2, mmdet and mmcv.

Names: AVA's evaluation writes `np.NAN`, others `np.Inf`, `np.trapz`, ... The modules that use such
a name get a numpy that still has them; numpy itself is not changed.

Integers: numpy 2 refuses to add a negative int to an array of uint8, which mmaction's ColorJitter
does with the hue.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from .after_import import after_import
from .cure import Cure

OLD_NAMES: dict[str, Any] = {
    "NAN": np.nan,
    "Inf": np.inf,
    "float": float,
    "in1d": np.isin,
    "trapz": getattr(np, "trapezoid", None),
}

USERS = {
    "mmaction.datasets.transforms.pose_transforms",
    "mmaction.evaluation.functional.accuracy",
    "mmaction.evaluation.functional.ava_evaluation.metrics",
    "mmaction.evaluation.metrics.multimodal_metric",
    "mmaction.utils.misc",
    "mmcv.ops.pixel_group",
    "mmdet.evaluation.functional.ytviseval",
}
"""Every module of the three toolboxes and mmcv that writes one of these names."""

COLOR_JITTER = "mmaction.datasets.transforms.processing"


class _Numpy1Names(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return OLD_NAMES[name] if name in OLD_NAMES else getattr(np, name)


_NUMPY = _Numpy1Names(np.__name__)


def _give_names(module: ModuleType) -> None:
    vars(module)["np"] = _NUMPY


def adjust_hue(img: np.ndarray, factor: float) -> np.ndarray:
    """Turn the hue of an RGB image (H, W, 3) of 0..255 by `factor` times 255 of OpenCV's 180."""
    import cv2

    hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(factor * 255)) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


def _give_hue(module: ModuleType) -> None:
    vars(module)["ColorJitter"].adjust_hue = staticmethod(adjust_hue)


def _refuses_negative() -> bool:
    try:
        np.zeros(1, np.uint8) + -1
    except OverflowError:
        return True
    return False


NAMES = Cure(
    name="numpy-names",
    reason="numpy 2 has no np.NAN, np.Inf, np.trapz, np.in1d, on which AVA's evaluation, pose "
    "transforms and others of mmaction fail",
    is_needed=lambda: any(not hasattr(np, name) for name in OLD_NAMES),
    apply=lambda: after_import(USERS.__contains__, _give_names),
)

HUE = Cure(
    name="color-jitter",
    reason="numpy 2 refuses uint8 + negative int, so mmaction's ColorJitter fails whenever it "
    "draws a negative hue",
    is_needed=_refuses_negative,
    apply=lambda: after_import(COLOR_JITTER.__eq__, _give_hue),
)
