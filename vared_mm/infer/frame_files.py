"""Frames out of picture and video files, and drawings into new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from vared_mm.datasets.mp4 import video_writer


class UnreadableFileError(ValueError):
    """Neither a picture nor a video that can be read."""


def is_picture(file: Path) -> bool:
    return file.is_file() and cv2.haveImageReader(str(file))


def frames(file: Path) -> Iterator[np.ndarray]:
    """BGR frames uint8 (H, W, 3): one of a picture, all of a video."""
    if not file.is_file():
        raise UnreadableFileError(f"there is no file {file}")
    if is_picture(file):
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if picture is None:
            raise UnreadableFileError(f"{file} begins like a picture, but OpenCV cannot read it")
        yield picture
        return
    video = cv2.VideoCapture(str(file))
    seen = False
    try:
        while (read := video.read())[0]:
            seen = True
            yield read[1]
    finally:
        video.release()
    if not seen:
        raise UnreadableFileError(
            f"{file} is no picture or video that OpenCV {cv2.__version__} can read"
        )


def frame_rate(file: Path) -> float:
    video = cv2.VideoCapture(str(file))
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate if 0 < rate < 1000 else 25.0


def targets(files: Sequence[Path], out: Path | None, what: str) -> list[Path | None]:
    """Where each file's drawing goes, as `<name>_<what>`; refused where two would be one file."""
    if out is None:
        return [None] * len(files)
    found: dict[Path, Path] = {}
    for file in files:
        suffix = ".png" if is_picture(file) else ".mp4"
        target = out / f"{file.stem}_{what}{suffix}"
        if target in found:
            raise ValueError(
                f"{found[target]} and {file} would both be drawn as {target}; give them in two "
                "calls with folders of their own, or other names"
            )
        found[target] = file
    out.mkdir(parents=True, exist_ok=True)
    return list(found)


@contextmanager
def drawn_into(target: Path | None, file: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes canvases for `target`, which appears complete or not at all."""
    if target is None:
        yield lambda canvas: None
        return
    half = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        if target.suffix == ".png":
            yield lambda canvas: check_written(cv2.imwrite(str(half), canvas), target)
        else:
            with video_writer(half, frame_rate(file)) as draw:
                yield draw
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def check_written(done: bool, path: Path) -> None:
    if not done:
        raise OSError(f"OpenCV {cv2.__version__} cannot write {path}")
