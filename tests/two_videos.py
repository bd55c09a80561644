"""Annotations of two small videos, as J-HMDB has them."""

from dataclasses import replace

import numpy as np

from vared_mm.datasets.tube_annotations import TubeAnnotations

WALK = np.array([[1, 0, 0, 20, 40], [2, 4, 0, 24, 40], [4, -8, 0, 32, 60]], np.float32)
RUN = np.array([[4, 40, 10, 60, 30]], np.float32)


def two_videos(**changes):
    """Of 80 x 60 pixels: one with two actors and a frame without any, one with one."""
    whole = TubeAnnotations(
        labels=["run", "walk"],
        gttubes={"walk/a": {1: [WALK], 0: [RUN]}, "run/b": {0: [RUN - [3, 0, 0, 0, 0]]}},
        nframes={"walk/a": 5, "run/b": 2},
        train_videos=[["walk/a"], ["run/b"]],
        test_videos=[["run/b"], ["walk/a"]],
        resolution={"walk/a": (60, 80), "run/b": (60, 80)},
    )
    return replace(whole, **changes)
