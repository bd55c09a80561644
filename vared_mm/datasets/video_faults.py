"""What is wrong with a video, as a file or as a folder of frames, looked at as pipelines do."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vared_mm.compat.named_steps import PLACES
from vared_mm.files import plain_name

# Modules whose errors tell of a file, wherever in a pipeline it is read.
READERS = ("decord", "av", "PIL", "pims", "mmcv.image", "mmengine.fileio")
# What the machine lacks and no file.
OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN, errno.EINTR}
# Of decord, as [12:34:56] /src/video_reader.cc:270: [BytesIO], and of OpenCV.
SOURCE = re.compile(
    r"^(\[[\d:]+\] )?(OpenCV\(\S+\) )?\S+\.(cc|cpp|h|hpp):\d+: (error: |\[BytesIO\] )?"
)
# decord 0.6 reads videos of these widths with rows of a wrong length, and says nothing.
MISREAD_WIDTHS = (2, 4, 6, 8, 12, 16, 24, 48, 72)


def open_video(file: str | Path) -> Any:
    """decord's reader, opened as MMAction2's `DecordInit` does.

    Of a file's content decord takes the number of frames that the header promises; by its name it
    would find those that are there, and take a colon in it for a protocol.
    """
    import decord

    return decord.VideoReader(BytesIO(Path(file).read_bytes()), num_threads=1)


def fault_of(filename: str) -> str | None:
    """What is wrong with a video file, or None; decodes all of it, where decord is installed."""
    path = Path(filename)
    fault = fault_of_file(path)
    if fault:
        return fault
    try:
        import decord  # noqa: F401
    except ImportError:
        return None
    try:
        reader = open_video(path)
        for number in range(len(reader)):
            shape = reader[number].shape
            if shape[-1] != 3:  # As it is for MISREAD_WIDTHS.
                return f"is {shape[1]} pixels wide, which decord misreads; give it another width"
    except Exception as error:
        if is_of_the_machine(error):
            raise
        return fault_told(path, error)
    return "holds no frame" if not len(reader) else None


def fault_told(file: Path, error: Exception) -> str:
    """What decord's error says of a file."""
    with plain_name(file) as name:
        if cv2.haveImageReader(name):
            return "is a picture; wanted a video"
    if "cannot find video stream" in str(error):
        return "holds no video stream"
    said = first_line(error)
    # All that decord says where FFmpeg finds no format in a file.
    lost = "it is no video, or one that lacks a part" if said.startswith("Error reading") else said
    return f"cannot be decoded ({lost})"


def fault_of_file(path: Path) -> str | None:
    if path.is_dir():
        return "is a folder"
    if not path.is_file():
        return "is no file" if path.exists() else "does not exist"
    return "is empty (0 bytes)" if not path.stat().st_size else None


def fault_of_frames(info: Mapping[str, Any]) -> str | None:
    """What is wrong with the frames of a sample of MMAction2's `RawframeDataset`, or None."""
    folder, template = Path(info["frame_dir"]), info["filename_tmpl"]
    if not folder.is_dir():
        return "is no folder" if folder.exists() else "does not exist"
    first = info.get("start_index", 0) + info.get("offset", 0)
    numbers = range(first, first + info.get("total_frames", 0))
    axes = [("x",), ("y",)] if info.get("modality") == "Flow" else [()]
    names = [template.format(*axis, number) for number in numbers for axis in axes]
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        return f"lacks {len(lost)} of {len(names)} frames, as {lost[0]}"
    broken = next((name for name in names if not is_image(folder / name)), None)
    return f"has the frame {broken}, which cannot be decoded" if broken else None


def is_image(file: Path) -> bool:
    content = np.fromfile(file, np.uint8)
    return bool(len(content)) and cv2.imdecode(content, cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None


def place_of(info: Mapping[str, Any]) -> str | None:
    """The file or folder that a sample is read from."""
    return next((str(info[key]) for key in PLACES if info.get(key)), None)


def fault_in(info: Mapping[str, Any], error: Exception) -> str | None:
    """What is wrong with the file or folder of a sample that ended in this error, or None."""
    place = place_of(info)
    if place is None:
        return None
    if "filename" in info:
        # As `DecordInit` does.
        missing = not Path(place).suffix and not Path(place).exists()
        fault = fault_of(f"{place}.mp4" if missing else place)
    elif "frame_dir" in info:
        # Of skeletons that is a name alone, and there are no files.
        fault = fault_of_frames(info) if "filename_tmpl" in info else None
    else:
        fault = fault_of_file(Path(place))
    return fault or (f"cannot be read ({first_line(error)})" if is_of_reading(error) else None)


def is_of_reading(error: BaseException) -> bool:
    """Whether a decoder or the file system raised it and no other step of a pipeline."""
    if is_of_the_machine(error):
        return False
    raised = [
        frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    modules = (*raised[-1:], type(error).__module__)
    read = any(f"{name}.".startswith(f"{reader}.") for reader in READERS for name in modules)
    cause = error.__cause__
    return read or isinstance(error, OSError) or (cause is not None and is_of_reading(cause))


def is_of_the_machine(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in OF_THE_MACHINE


def first_line(error: Exception) -> str:
    return next(iter(without_source(str(error)).splitlines()), type(error).__name__)


def without_source(text: str) -> str:
    """Without the place in the decoder's source that its errors begin with."""
    return SOURCE.sub("", text.strip())
