"""Frames into an MPEG-4 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from vared_mm.files import half_written, plain_name

# MPEG-4 has rates as fractions of two numbers of 16 bits, and OpenCV makes them of decimals.
LARGEST, LEAST_RATE = 65535, 0.002
USUAL_RATE = 25.0
# Of formats that take MPEG-4; for others FFmpeg fails with the second frame, or at the end.
SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".3gp", ".3g2", ".mpg", ".mpeg",
    ".vob", ".asf", ".wmv", ".nut",
)  # fmt: skip


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes BGR frames uint8 (H, W, 3) of one size; the file appears when it is whole.

    Args:
        rate: frames per second; the nearest that MPEG-4 has is taken, 25 for what is none.

    Raises:
        ValueError: The format that the suffix tells takes no MPEG-4.
        OSError: The file cannot be written, or OpenCV was built without the encoder.
    """
    check_suffix(path)
    writer = cv2.VideoWriter()
    sizes: list[tuple[int, int]] = []
    with half_written(path) as half, plain_name(half) as name:

        def write(frame: np.ndarray) -> None:
            sizes.append((frame.shape[1], frame.shape[0]))
            if len(sizes) == 1:
                open_writer(writer, name, rate_of(rate), sizes[0])
            elif sizes[-1] != sizes[0]:
                raise ValueError(f"a frame of {sizes[-1]} pixels follows frames of {sizes[0]}")
            writer.write(frame)

        try:
            yield write
        finally:
            writer.release()
        # The writer is silent of what it could not write.
        if (whole := frames_in(name)) != len(sizes):
            raise OSError(f"{whole} of {len(sizes)} frames are in it; is the disk full?")


def check_suffix(path: Path) -> None:
    """A file without a suffix is MPEG-4's own."""
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path} would hold MPEG-4, which its format does not take; wanted a name that ends in "
            f"{', '.join(SUFFIXES)}"
        )


def open_writer(writer: cv2.VideoWriter, name: str, rate: float, size: tuple[int, int]) -> None:
    if not writer.open(name, cv2.VideoWriter.fourcc(*"mp4v"), rate, size):
        raise OSError(
            f"OpenCV {cv2.__version__} opens no MPEG-4 encoder for {size} pixels at {rate} frames "
            "per second, as the opencv-python wheels do, or its folder cannot be written"
        )


def rate_of(rate: float) -> float:
    if not 0 < rate < 1000:
        return USUAL_RATE
    decimals = next(d for d in (3, 2, 1, 0) if rate * 10**d <= LARGEST)
    return max(round(rate, decimals), LEAST_RATE)


def frames_in(name: str) -> int:
    video, count = cv2.VideoCapture(name), 0
    while video.grab():
        count += 1
    video.release()
    return count
