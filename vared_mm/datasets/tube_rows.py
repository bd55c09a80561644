"""Boxes as rows, one for each, whatever they were read from, and the tubes that they make up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vared_mm.datasets.tables import AnnotationError, in_order, is_number
from vared_mm.datasets.tube_annotations import TubeAnnotations
from vared_mm.datasets.video_faults import fault_of, open_video

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

Size = tuple[int, tuple[int, int]]
"""Number of frames, and height and width."""


class TubeRow(NamedTuple):
    """One box: of which tube of a video, in which frame, counted from 1; x1 y1 x2 y2 in pixels."""

    video: str
    tube: str
    label: str
    frame: int
    box: tuple[float, ...]


def annotations_of(
    rows: Iterable[TubeRow],
    size: Callable[[str], Size],
    splits: Sequence[tuple[Sequence[str], Sequence[str]]],
    labels: Sequence[str] | None = None,
) -> TubeAnnotations:
    """Annotations of the videos that the splits name.

    Args:
        size: number of frames, height and width of a video.
        splits: of each the videos of training and of test.
        labels: in the order of their numbers; by default those of the rows, as `in_order` has them.

    Raises:
        AnnotationError: for a video without boxes, and a label that is not listed.
    """
    grouped: dict[str, dict[tuple[str, str], list[tuple[float, ...]]]] = {}
    for row in rows:
        tubes = grouped.setdefault(row.video, {})
        tubes.setdefault((row.label, row.tube), []).append((row.frame, *row.box))
    there = {label for tubes in grouped.values() for label, _ in tubes}
    names = list(labels or in_order(there))
    if unknown := sorted(there - set(names)):
        raise AnnotationError(f"the labels {unknown} are none of the {len(names)} that are listed")
    videos = dict.fromkeys(video for split in splits for part in split for video in part)
    if empty := [video for video in videos if video not in grouped]:
        near = (
            f"the annotated ones are named like {next(iter(grouped))!r}" if grouped else "none has"
        )
        raise AnnotationError(
            f"{len(empty)} videos of the splits have no box, as {empty[0]!r}; {near}"
        )
    sizes = {video: size(video) for video in videos}
    return TubeAnnotations(
        labels=names,
        gttubes={video: numbered(grouped[video], names) for video in videos},
        nframes={video: frames for video, (frames, _) in sizes.items()},
        train_videos=[list(train) for train, _ in splits],
        test_videos=[list(test) for _, test in splits],
        resolution={video: resolution for video, (_, resolution) in sizes.items()},
    )


def numbered(
    tubes: dict[tuple[str, str], list[tuple[float, ...]]], names: list[str]
) -> dict[int, list[np.ndarray]]:
    """Tubes by the number of their class, each in the order of its frames."""
    found: dict[int, list[np.ndarray]] = {}
    for (label, _), boxes in tubes.items():
        found.setdefault(names.index(label), []).append(np.array(sorted(boxes), np.float32))
    return found


def size_of_frames(folder: Path) -> Size:
    """Of a folder of numbered images; the same frame in two formats is one."""
    files = {
        int(path.stem): path
        for path in sorted(folder.iterdir(), reverse=True)
        if path.suffix.lower() in IMAGES and is_number(path.stem)
    }
    if not files:
        raise AnnotationError(f"{folder} holds no frames like 00001.png")
    lost = [number for number in range(1, max(files) + 1) if number not in files]
    if lost or min(files) < 1:
        raise AnnotationError(
            f"{folder} holds {len(files)} frames with the numbers {min(files)} to {max(files)}"
            + (f", of which {len(lost)} are missing, as {lost[0]}" if lost else "")
            + "; wanted all from 1 on"
        )
    image = cv2.imdecode(np.fromfile(files[1], np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise AnnotationError(f"{files[1]} is no image that OpenCV can read")
    return len(files), image.shape[:2]


def size_of_video(file: Path) -> Size:
    """Decodes all of it, as a training would come upon what is broken."""
    if not file.is_file():
        raise AnnotationError(f"there is no video {file}")
    if fault := fault_of(str(file)):
        raise AnnotationError(f"{file} is no video that decord can read: it {fault}")
    video = open_video(file)
    return len(video), video[0].shape[:2]
