"""A video as it runs: frames into clips, clips into answers, answers drawn into frames."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vared_mm.datasets.mp4 import USUAL_RATE, video_writer
from vared_mm.infer.live_drawing import draw_answer
from vared_mm.infer.live_page import page
from vared_mm.infer.sliding import Answer, SlidingClips
from vared_mm.infer.source import Source

# Takes a picture, and says whether its viewer wants no more.
Show = Callable[[np.ndarray], bool | None]
WINDOW = "vared-mm live"


@dataclass(frozen=True)
class Said:
    """An answer, and how many frames had come then."""

    frame: int
    answer: Answer


def live(
    source: Source,
    clips: SlidingClips,
    every: int,
    show: Show,
    names: list[str],
    in_time: bool = False,
) -> Iterator[Said]:
    """Asks about the last frames once in `every`, and shows each frame with the last answer.

    Of a camera or a stream, whose frames do not wait, some are not shown where the model takes
    longer than until the next one; clips still have all of theirs.

    Args:
        in_time: For somebody who looks on: a file is shown no faster than it is meant to be, and
            frames that came too fast are left out. Else each has its picture, the last of those
            that came together, so that what is written takes as long as what was seen.

    Raises:
        ValueError: The source ends before there is a whole clip.
    """
    window: deque[np.ndarray] = deque(maxlen=clips.frames)
    said: Said | None = None
    came, begun = 0, time.monotonic()
    for new, number in source.arriving(clips.frames):
        window.extend(new)
        came += number
        if len(window) == clips.frames and (said is None or came - said.frame >= every):
            said = Said(came, clips(window))
            yield said
        if in_time and source.waits:
            time.sleep(max(0.0, begun + came / (source.rate or USUAL_RATE) - time.monotonic()))
        picture = draw_answer(new[-1], said.answer if said else None, names)
        for _ in range(1 if in_time else number):
            if show(picture):
                return
    if said is None:
        source.warning()  # of a damaged one this is the cause
        raise ValueError(
            f"{source.name} ends after {came} frames, and a clip has {clips.frames}; give a longer "
            "video, or a smaller --window"
        )


def shown_in(source: Source, out: Path | None, port: int | None) -> AbstractContextManager[Show]:
    """What shows pictures: a file, a page on this machine, or a window."""
    if out is not None:
        return video_writer(out, source.rate)
    return window() if port is None else page(port, source.name)


def check_display() -> None:
    """Raises ValueError where no window can be opened: Qt would end the process."""
    built = cv2.getBuildInformation().partition("GUI:")[2].split(maxsplit=1)[0]
    if built == "NONE":
        raise ValueError(f"this OpenCV ({cv2.__version__}) opens no windows; {INSTEAD}")
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        raise ValueError(f"there is no display for a window; {INSTEAD}")


INSTEAD = "--serve shows a page on this machine, --out FILE.mp4 writes a video"


@contextmanager
def window() -> Iterator[Show]:
    """Closed by its cross, q or escape."""

    def show(canvas: np.ndarray) -> bool:
        cv2.imshow(WINDOW, canvas)
        pressed = cv2.waitKey(1) & 0xFF
        return pressed in (ord("q"), 27) or cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) < 1

    try:
        yield show
    finally:
        cv2.destroyAllWindows()
