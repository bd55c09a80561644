"""Clips around a key frame whose boxes move along with what is done to the pixels.

Decoding, resizing, flipping, colours and packing are MMAction2's; here stands what it lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from vared_mm.datasets.clips import Pipeline

META_KEYS = ("video", "frame", "truth", "img_shape", "original_shape", "crop_quadruple")


@TRANSFORMS.register_module()
class SampleAroundKeyFrame(BaseTransform):
    """Chooses the frames of a clip; the key frame is number `clip_len` // 2 of it, counted from 0.

    Before the first and after the last frame of the video, these are repeated.

    Args:
        intervals: how many frames of the video apart those of the clip are; of several numbers
            each clip draws one.
    """

    def __init__(self, clip_len: int, intervals: int | Sequence[int] = 1) -> None:
        self.intervals = (intervals,) if isinstance(intervals, int) else tuple(intervals)
        if clip_len < 1 or not self.intervals or min(self.intervals) < 1:
            raise ValueError(f"clip_len={clip_len} and intervals={intervals} have to be at least 1")
        self.clip_len = clip_len

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        frames, key = results["total_frames"], results["frame"] - 1
        if key >= frames:
            raise ValueError(
                f"the key frame {key + 1} of {results['video']} is not among its {frames} frames: "
                "the annotations are longer than the video"
            )
        interval = int(np.random.choice(self.intervals))
        steps = np.arange(self.clip_len) - self.clip_len // 2
        results["frame_inds"] = (key + interval * steps).clip(0, frames - 1)
        results["clip_len"], results["frame_interval"] = self.clip_len, interval
        results["num_clips"] = 1
        return results


@TRANSFORMS.register_module()
class JitteredCrop(BaseTransform):
    """Moves each edge of the frame by up to `jitter` of its side, inwards or outwards.

    What comes from outside the frame is black. A box is cut at the new edges, and left out where
    less than `min_visible` of its area is left.
    """

    def __init__(self, jitter: float = 0.2, min_visible: float = 0.25) -> None:
        if not 0 <= jitter < 0.5:
            raise ValueError(f"jitter={jitter} has to be from 0 to below 0.5")
        if not 0 <= min_visible <= 1:
            raise ValueError(f"min_visible={min_visible} has to be a share between 0 and 1")
        self.jitter, self.min_visible = jitter, min_visible

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        height, width = results["img_shape"]
        frame = np.array([0, 0, width, height])
        moved = np.random.uniform(-self.jitter, self.jitter, 4) * [width, height, width, height]
        x1, y1, x2, y2 = (frame + moved).round().astype(int)
        results["imgs"] = [cropped(image, x1, y1, x2, y2) for image in results["imgs"]]
        results["img_shape"] = results["imgs"][0].shape[:2]
        boxes = results["gt_bboxes"] - np.array([x1, y1] * 2, np.float32)
        seen = boxes.clip(0, np.array([x2 - x1, y2 - y1] * 2, np.float32))
        stays = areas(seen) >= np.maximum(self.min_visible * areas(boxes), np.finfo("f").eps)
        results["gt_bboxes"] = seen[stays]
        results["gt_labels"] = results["gt_labels"][stays]
        return results


def cropped(image: np.ndarray, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """The image from x1 y1 to x2 y2, black where that is outside of it."""
    height, width = image.shape[:2]
    inner = image[max(y1, 0) : y2, max(x1, 0) : x2]
    around = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))
    return cv2.copyMakeBorder(inner, *around, cv2.BORDER_CONSTANT, value=0)


def areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def key_frame_pipelines(
    clip_len: int,
    size: int,
    video: bool = False,
    flip: float = 0.5,
    intervals: Sequence[int] = (1, 2),
) -> tuple[Pipeline, Pipeline]:
    """For training and test; both make clips of size x size pixels.

    Args:
        intervals: how many frames of the video apart those of a clip are; training draws one of
            them for each clip, the test takes the first.
        video: decode video files instead of reading frames.
        flip: probability of a mirrored clip; 0 where left and right make the class.
    """
    opened: Pipeline = [dict(type="DecordInit")] if video else []
    decode = dict(type="DecordDecode" if video else "RawFrameDecode")
    whole = dict(type="Resize", scale=(size, size), keep_ratio=False)
    packed: Pipeline = [
        dict(type="FormatShape", input_format="NCTHW"),
        dict(type="PackActionInputs", meta_keys=META_KEYS),
    ]
    train: Pipeline = [
        *opened,
        dict(type="SampleAroundKeyFrame", clip_len=clip_len, intervals=intervals),
        decode,
        dict(type="JitteredCrop"),
        whole,
        dict(type="Flip", flip_ratio=flip),
        dict(
            type="ColorJitter",
            brightness=(0.67, 1.5),
            contrast=0.0,
            saturation=(0.67, 1.5),
            hue=0.1,
        ),
        *packed,
    ]
    centre = dict(type="SampleAroundKeyFrame", clip_len=clip_len, intervals=intervals[0])
    test = [*opened, centre, decode, whole, *packed]
    return train, test
