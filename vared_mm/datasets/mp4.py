"""Frames into an MPEG-4 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes BGR frames uint8 (H, W, 3); the first one tells the size.

    Args:
        rate: frames per second.

    Raises:
        OSError: The file cannot be written, or OpenCV was built without the encoder.
    """
    writer = cv2.VideoWriter()

    def write(frame: np.ndarray) -> None:
        if not writer.isOpened():
            size, codec = (frame.shape[1], frame.shape[0]), cv2.VideoWriter.fourcc(*"mp4v")
            if not writer.open(str(path), codec, rate, size):
                raise OSError(
                    f"OpenCV {cv2.__version__} cannot write {path}: its folder cannot be written, "
                    "or it has no MPEG-4 encoder, which the opencv-python wheels have"
                )
        writer.write(frame)

    try:
        yield write
    finally:
        writer.release()
