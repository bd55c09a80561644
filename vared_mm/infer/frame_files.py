"""Frames out of picture and video files, and drawings into new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageSequence

from vared_mm.datasets.mp4 import video_writer
from vared_mm.datasets.once import write_image
from vared_mm.files import plain_name

# A video that lacks more than this part of its frames is not the one that was meant.
SPARED = 0.1
# Of pictures that Pillow cannot read, though OpenCV may.
UNKNOWN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class UnreadableFileError(ValueError):
    """Neither a picture nor a video that can be read."""


def is_picture(file: Path) -> bool:
    """Of one page: those of several are played as videos are."""
    if not os.path.isfile(file) or pages_of(file) > 1:
        return False
    with plain_name(file) as name:
        return cv2.haveImageReader(name)


def pages_of(file: Path) -> int:
    try:
        with Image.open(file) as picture:
            # A camera's second picture in a file is a preview or the like.
            return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except UNKNOWN:
        return 1


def frames(file: Path) -> Iterator[np.ndarray]:
    """BGR frames uint8 (H, W, 3): one of a picture, all of a video or an animated picture."""
    check_there(file)
    if is_picture(file):
        yield picture_in(file)
    else:
        yield from pages(file) if pages_of(file) > 1 else frames_of_video(file)


def check_there(file: Path) -> None:
    if not os.path.isfile(file):
        what = "is a folder" if os.path.isdir(file) else "does not exist"
        raise UnreadableFileError(f"there is no file {file}: it {what}")


def picture_in(file: Path) -> np.ndarray:
    with plain_name(file) as name:
        picture = cv2.imread(name, cv2.IMREAD_COLOR)
    if picture is None:
        raise UnreadableFileError(f"{file} begins like a picture, but OpenCV cannot read it")
    check_whole(file)
    return picture


def check_whole(file: Path) -> None:
    """OpenCV reads half a picture as a whole one, the rest grey."""
    try:
        with Image.open(file) as picture:
            picture.load()
    except UNKNOWN as error:
        if "truncated" in str(error):
            raise UnreadableFileError(f"{file} is cut: {error}") from None


def pages(file: Path) -> Iterator[np.ndarray]:
    try:
        with Image.open(file) as picture:
            for page in ImageSequence.Iterator(picture):
                yield np.asarray(page.convert("RGB"))[..., ::-1].copy()
    except UNKNOWN as error:
        raise UnreadableFileError(f"{file} is cut or broken: {error}") from None


@contextmanager
def captured(*what: Any) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(*what)
    try:
        yield video
    finally:
        video.release()


@contextmanager
def opened(file: Path, *how: Any) -> Iterator[cv2.VideoCapture]:
    with plain_name(file) as name, captured(name, *how) as video:
        yield video


def frames_of_video(file: Path) -> Iterator[np.ndarray]:
    seen = False
    with opened(file) as video:
        while (read := video.read())[0]:
            seen = True
            yield read[1]
    if not seen:
        raise UnreadableFileError(
            f"{file} is no picture or video that OpenCV {cv2.__version__} can read"
        )


def warning_of(file: Path) -> dict[str, str]:
    """What to tell of a video that lacks a few of the frames that its header counts; nothing of it
    is decoded.

    Raises:
        UnreadableFileError: It lacks more, as one does whose download broke off.
    """
    check_there(file)
    if is_picture(file) or pages_of(file) > 1:
        return {}
    seen, counted, missing = looked_through(file)
    if not seen or missing < 0.5:
        return {}
    text = f"{file} is cut or broken: its header counts {counted} frames, and {seen} are there"
    if missing > SPARED * (seen + missing):
        raise UnreadableFileError(text)
    return {"warning": text}


def looked_through(file: Path) -> tuple[int, int, float]:
    """How many frames are there, how many the header counts, and how many are missing."""
    seen, last = 0, 0.0
    # Frames as they are stored: to decode them takes a hundred times as long.
    with opened(file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]) as video:
        counted, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        while video.grab():
            seen, last = seen + 1, max(last, video.get(cv2.CAP_PROP_POS_MSEC))
    if not seen or not 0 < counted < 1e9 or not 0 < rate < 1e9:
        return seen, 0, 0
    if is_mp4(file):
        return seen, int(counted), counted - seen
    # Elsewhere the count is OpenCV's guess from the duration, which alone is to be trusted.
    step = last / (seen - 1) if seen > 1 else 1000 / rate
    return seen, round(counted), (1000 * counted / rate - last) / step - 1 if step > 0 else 0


def is_mp4(file: Path) -> bool:
    """Or QuickTime, its like: formats with a table of all frames."""
    with file.open("rb") as stream:
        return stream.read(8)[4:] == b"ftyp"


def frame_rate(file: Path) -> float:
    with opened(file) as video:
        return video.get(cv2.CAP_PROP_FPS)


def targets(files: Sequence[Path], out: Path | None, what: str) -> list[Path | None]:
    """Where each file's drawing goes, as `<name>_<what>`; refused where two would be one file, or
    where a drawing would replace one of the files."""
    if out is None:
        return [None] * len(files)
    found: dict[Path, Path] = {}
    inputs = {os.path.realpath(file) for file in files}
    for file in files:
        suffix = ".png" if is_picture(file) else ".mp4"
        target = out / f"{file.stem}_{what}{suffix}"
        if target in found:
            raise ValueError(
                f"{found[target]} and {file} would both be drawn as {target}; give them in two "
                "calls with folders of their own, or other names"
            )
        if os.path.realpath(target) in inputs:
            raise ValueError(
                f"the drawing of {file} would replace {target}, which is given too; choose another "
                "folder"
            )
        if target.is_dir():
            raise ValueError(f"{file} would be drawn as {target}, which is a folder")
        found[target] = file
    out.mkdir(parents=True, exist_ok=True)
    return list(found)


@contextmanager
def drawn_into(target: Path | None, file: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes canvases for `target`, which appears complete or not at all."""
    if target is None:
        yield lambda canvas: None
    elif target.suffix == ".png":
        yield lambda canvas: write_image(target, canvas)
    else:
        with video_writer(target, frame_rate(file)) as draw:
            yield draw
