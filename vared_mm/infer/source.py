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

from vared_mm.infer.frame_files import UnreadableFileError, captured, check_there, opened

# Milliseconds after which a stream that says nothing is given up.
PATIENCE = 10_000


@dataclass(frozen=True)
class Source:
    """An open video.

    Args:
        name: As its user wrote it, without the password of a stream.
        waits: Whether frames stay there until they are asked for, as those of a file do.
    """

    name: str
    video: cv2.VideoCapture
    waits: bool

    @property
    def rate(self) -> float:
        """Frames per second, 0 where it does not tell."""
        rate = self.video.get(cv2.CAP_PROP_FPS)
        return rate if 0 < rate < 1000 else 0.0

    def arriving(self, keep: int) -> Iterator[list[np.ndarray]]:
        """BGR frames uint8 (H, W, 3): each of a file; of a camera or a stream those that came
        since the last time, the newest `keep` of them."""
        return ([frame] for frame in self._frames()) if self.waits else self._newest(keep)

    def _frames(self) -> Iterator[np.ndarray]:
        while (read := self.video.read())[0]:
            yield read[1]

    def _newest(self, keep: int) -> Iterator[list[np.ndarray]]:
        came, ended = Condition(), False
        waiting: deque[np.ndarray] = deque(maxlen=keep)

        def read() -> None:
            nonlocal ended
            for frame in self._frames():
                with came:
                    waiting.append(frame)
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
                    new = list(waiting)
                    waiting.clear()
                if not new:
                    return
                yield new
        finally:
            ended = True
            reader.join()


@contextmanager
def source_of(text: str) -> Iterator[Source]:
    """A file by its name, a camera by its number, a stream by its address.

    Raises:
        UnreadableFileError: It cannot be opened.
    """
    if "://" in text:
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            PATIENCE,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            PATIENCE,
        ]
        video, name = captured(text, cv2.CAP_FFMPEG, limits), re.sub(r"//[^/@]*@", "//", text)
        doubt = f"nothing that OpenCV understands answers there within {PATIENCE // 1000} s"
    elif text.isdecimal() and not Path(text).exists():
        video, name = captured(int(text)), f"camera {text}"
        doubt = "OpenCV finds no camera of that number, or may not use it"
    else:
        check_there(Path(text))
        video, name = opened(Path(text)), text
        doubt = f"it is no video that OpenCV {cv2.__version__} can read"
    with video as one:
        if not one.isOpened():
            raise UnreadableFileError(f"{name} cannot be opened: {doubt}")
        # A video file on a server stays there, too.
        yield Source(name, one, waits=one.get(cv2.CAP_PROP_FRAME_COUNT) > 0)
