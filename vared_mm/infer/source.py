"""Frames of a video file, a camera or a stream, decoded as they are asked for."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

import cv2
import numpy as np

from vared_mm.infer.frame_files import (
    UnreadableFileError,
    captured,
    check_there,
    opened,
    warning_of,
)

# Milliseconds after which a stream that says nothing is given up.
PATIENCE = 10_000


@dataclass
class Source:
    """An open video.

    Args:
        name: As its user wrote it, without the password of a stream.
        waits: Whether frames stay there until they are asked for, as those of a file do.
        file: Of one on this machine.
        frames: How many it had, once it has ended.
    """

    name: str
    video: cv2.VideoCapture
    waits: bool
    file: Path | None = None
    frames: int | None = None

    def warning(self) -> str | None:
        """What to tell of a file that ended before all of its frames came.

        Raises:
            UnreadableFileError: Many are missing.
        """
        if self.file is None or self.frames is None:
            return None
        return warning_of(self.file, self.frames).get("warning")

    @property
    def rate(self) -> float:
        """Frames per second, 0 where it does not tell."""
        rate = self.video.get(cv2.CAP_PROP_FPS)
        return rate if 0 < rate < 1000 else 0.0

    def arriving(self, keep: int) -> Iterator[tuple[list[np.ndarray], int]]:
        """BGR frames uint8 (H, W, 3) and how many came: each of a file; of a camera or a stream the
        newest `keep` of those since the last time."""
        return (([frame], 1) for frame in self._frames()) if self.waits else self._newest(keep)

    def _frames(self) -> Iterator[np.ndarray]:
        count = 0
        while (read := self.video.read())[0]:
            count += 1
            yield read[1]
        self.frames = count

    def _newest(self, keep: int) -> Iterator[tuple[list[np.ndarray], int]]:
        came, ended, count = Condition(), False, 0
        waiting: deque[np.ndarray] = deque(maxlen=keep)

        def read() -> None:
            nonlocal ended, count
            for frame in self._frames():
                with came:
                    waiting.append(frame)
                    count += 1
                    came.notify()
                if ended:
                    return
            with came:
                ended = True
                came.notify()

        reader = Thread(target=read, daemon=True)
        reader.start()
        try:
            while True:
                with came:
                    came.wait_for(lambda: waiting or ended)
                    new, number, count = list(waiting), count, 0
                    waiting.clear()
                if not new:
                    return
                yield new, number
        finally:
            ended = True
            reader.join()


@contextmanager
def source_of(text: str) -> Iterator[Source]:
    """A file by its name, a camera by its number, a stream by its address.

    Raises:
        UnreadableFileError: It cannot be opened.
    """
    file = None
    if "://" in text:
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            PATIENCE,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            PATIENCE,
        ]
        video, name = captured(text, cv2.CAP_FFMPEG, limits), without_password(text)
        doubt = f"nothing that OpenCV understands answers there within {PATIENCE // 1000} s"
        waits = None
    # No machine has so many cameras as a date has digits.
    elif text.isdecimal() and len(text) < 6 and not Path(text).exists():
        video, name, waits = captured(int(text)), f"camera {text}", False
        doubt = "OpenCV finds no camera of that number, or may not use it"
    else:
        file = Path(text)
        check_there(file)
        video, name, waits = opened(file), text, True
        doubt = f"it is no video that OpenCV {cv2.__version__} can read"
    with video as one:
        if not one.isOpened():
            raise UnreadableFileError(f"{name} cannot be opened: {doubt}")
        if waits is None:
            # A video file on a server stays there, too.
            waits = one.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        yield Source(name, one, waits, file)


def without_password(address: str) -> str:
    """Up to the last @, whatever a password holds, and without what a query asks for."""
    return re.sub(r"//[^?#]*@", "//", address).partition("?")[0]
