"""MMSegmentation cuts label images to 8 bits, squeezes them, and takes them for any picture's.

Labels of 16 bits then become other classes, and those of another size, or of a photo that its EXIF
tag turns as it is read, are trained on where they do not belong. Those of a single row or column
lose it, and packing fails with "The dim of value must be 2 or 3, but got 0". A file that is no
image fails without its name.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .after_import import after_import
from .cure import Cure, installed_source

LOADING = "mmseg.datasets.transforms.loading"
NO_IMAGE = "cannot be read as an image"
ORIENTATION = 0x0112  # the EXIF tag
_told: list[str | None] = []


class Rows(np.ndarray):
    """Labels (H, W), or (H, W, 1), of which a single row or column stays one."""

    def squeeze(self, axis: Any = None) -> Any:
        return self[..., 0] if self.ndim > 2 and self.shape[2] == 1 else self


class LabelsError(ValueError):
    """Labels that cannot be read, or that 8 bits do not hold."""


def check_what_is_read(module: ModuleType) -> None:
    """Lets `LoadAnnotations` name a label image that it would misread, and keep a single row."""
    names = vars(module)
    loader, decode = names["LoadAnnotations"], names["mmcv"].imfrombytes
    load = loader._load_seg_map

    def imfrombytes(*args: Any, **kwargs: Any) -> Any:
        try:
            labels = decode(*args, **kwargs)
        except Exception as error:  # of OpenCV or PIL
            raise LabelsError(NO_IMAGE) from error
        if labels is None:
            raise LabelsError(NO_IMAGE)
        refuse_wide(labels)
        return labels.view(Rows)

    def load_seg_map(self: Any, results: dict[str, Any]) -> None:
        try:
            load(self, results)
        except LabelsError as error:
            raise ValueError(f"{results['seg_map_path']} {error}") from error.__cause__
        results["gt_seg_map"] = np.asarray(results["gt_seg_map"])
        refuse_other_size(results)
        tell_turned(results.get("img_path"))

    # The module takes nothing else of mmcv.
    names["mmcv"] = SimpleNamespace(imfrombytes=imfrombytes)
    loader._load_seg_map = load_seg_map


def refuse_wide(labels: np.ndarray) -> None:
    if labels.dtype == np.uint8:
        return
    wrong = labels[labels != labels.astype(np.uint8)]
    if wrong.size:
        raise LabelsError(
            f"has labels of type {labels.dtype} like {wrong[0]}, which 8 bits do not hold; "
            "wanted whole numbers from 0 to 255, each the class of its pixel alone"
        )


def refuse_other_size(results: dict[str, Any]) -> None:
    """Compares with the picture as it was read, before it is resized."""
    labels, picture = results["gt_seg_map"].shape, results.get("ori_shape")
    if picture is None or labels == tuple(picture):
        return
    here = f"{results['seg_map_path']} gives labels of shape {labels}"
    if len(labels) != 2:
        raise ValueError(
            f"{here}; wanted a class index per pixel, in a grey or palette image; are these the "
            "colours of the classes?"
        )
    turned = " (its EXIF tag turns it as it is read)" if is_turned(results.get("img_path")) else ""
    raise ValueError(
        f"{here}, and its picture {results.get('img_path')} has {tuple(picture)}{turned}; wanted "
        "height and width of the picture as it is read"
    )


def tell_turned(picture: str | None) -> None:
    """Once, as nobody can see whether the labels are those of the picture as it is read."""
    if not _told and is_turned(picture):
        _told.append(picture)
        warnings.warn(
            f"the EXIF tag of {picture} turns or mirrors it as it is read; its label image is "
            "taken as it stands, and so are those of other such pictures",
            stacklevel=2,
        )


def is_turned(picture: str | None) -> bool:
    from PIL import Image

    if picture is None or not Path(picture).is_file():
        return False
    try:
        with Image.open(picture) as image:
            return image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except OSError:
        return False


CURE = Cure(
    name="label-files",
    reason="mmseg does not name label images that cannot be read, cuts them to 8 bits, does not "
    "compare them with their pictures, and squeezes them, so that those of one row, one column or "
    "one pixel fail",
    is_needed=lambda: ".squeeze()" in installed_source(LOADING),
    apply=lambda: after_import(LOADING.__eq__, check_what_is_read),
)
