"""Frames out of picture and video files, and drawings into new ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageSequence

from vared_mm.datasets.mp4 import video_writer
from vared_mm.datasets.once import write_image
from vared_mm.datasets.video_faults import fault_of
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


def warning_of(file: Path, decoded: int | None = None) -> dict[str, str]:
    """What to tell of a video that lacks a few of its frames.

    Args:
        decoded: How many could be decoded, where all were asked for; without it none is.

    Raises:
        UnreadableFileError: It lacks more, as one does whose download broke off.
    """
    check_there(file)
    if is_picture(file) or pages_of(file) > 1:
        return {}
    stored, counted, told, ended = looked_through(file)
    if decoded is not None and decoded < stored and is_damaged(file):
        return lacking(file, decoded, stored, f"{decoded} of {stored} frames can be decoded")
    if is_mp4(file):
        # Of a whole file an edit list leaves out the others.
        if stored < counted and is_cut(file):
            text = f"its header counts {counted} frames, and {stored} are there"
            return lacking(file, stored, counted, text)
        return {}
    # Other formats tell a duration alone, which a longer sound has too.
    if not ended or told - ended < 0.5 * ended / stored:
        return {}
    return {"warning": f"{file} may be cut: it tells {told:.1f} s, its frames end at {ended:.1f} s"}


def lacking(file: Path, there: int, wanted: int, told: str) -> dict[str, str]:
    text = f"{file} is cut or broken: {told}"
    if wanted - there > SPARED * wanted:
        raise UnreadableFileError(text)
    return {"warning": text}


def is_damaged(file: Path) -> bool:
    """Whether frames that OpenCV passes over are broken, and not outside of an edit list or never
    meant to be shown. Where decord is not installed they are taken for it."""
    return find_spec("decord") is None or fault_of(str(file)) is not None


def looked_through(file: Path) -> tuple[int, int, float, float]:
    """How many frames are there and how many the header counts, how many seconds it tells, and at
    which those that are there end; zeros for what it does not tell."""
    stored, last = 0, 0.0
    # Frames as they are stored: to decode them takes a hundred times as long.
    with opened(file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]) as video:
        counted, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        while video.grab():
            stored, last = stored + 1, max(last, video.get(cv2.CAP_PROP_POS_MSEC))
    if not stored or not 0 < counted < 1e9 or not 0 < rate < 1e9:
        return stored, 0, 0.0, 0.0
    step = last / (stored - 1) if stored > 1 else 1000 / rate
    return stored, round(counted), counted / rate, (last + step) / 1000


def is_mp4(file: Path) -> bool:
    """Or QuickTime, its like: formats with a table of all frames."""
    with file.open("rb") as stream:
        return stream.read(8)[4:] == b"ftyp"


def is_cut(file: Path) -> bool:
    """Whether a box of an MP4 reaches beyond the file's end."""
    size, at, length = file.stat().st_size, 0, 8
    with file.open("rb") as stream:
        # One without a length has the rest.
        while at < size and length >= 8:
            stream.seek(at)
            head = stream.read(16)
            large = head[:4] == b"\0\0\0\1"
            length = int.from_bytes(head[8:] if large else head[:4], "big")
            at += length
    return at > size


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
