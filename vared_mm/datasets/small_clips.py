"""A data set of one's own, from a csv of labels, as small clips that cost little to decode.

Every video becomes `frames` frames spread evenly over it, its short side `short_side` pixels.
Beside the clips stand `train.txt` and `val.txt`, MMAction2's lists, and `classes.txt`.
"""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import decord
import numpy as np
from mmengine.utils import track_iter_progress

from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.video_guard import fault_of
from vared_mm.datasets.video_lists import AnnotationError
from vared_mm.files import write_text


@dataclass(frozen=True)
class SmallClipsConfig:
    """Columns of the csv, which of its rows are trained on and validated, and the clips' size.

    Rows whose `split` is in neither list are left out.
    """

    split: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    file: str = "file"
    label: str = "label"
    frames: int = 32
    short_side: int = 64

    def __post_init__(self) -> None:
        if self.frames < 1 or self.short_side < 8:
            raise ValueError(
                f"frames={self.frames}, short_side={self.short_side}; wanted at least 1 and 8"
            )
        both = set(self.train) & set(self.val)
        if both:
            raise ValueError(f"{sorted(both)} would be trained on and validated")


def make_small_clips(labels: Path, videos: Path, out: Path, config: SmallClipsConfig) -> str:
    """Writes the clips and their lists into the folder `out`; clips that are there already stay.

    Clips of another length or size stand in another folder of `out`.

    Returns:
        What to tell of it.

    Raises:
        AnnotationError: A column, a split or a video is missing, a video is broken, or two would
            be one clip.
    """
    rows = read_rows(labels, config)
    names = sorted({row[config.label] for row in rows})
    folder = f"clips_{config.frames}x{config.short_side}"
    targets = targets_of([row[config.file] for row in rows], out / folder)
    with ThreadPoolExecutor() as pool:
        work = partial(shrink, config=config)
        done = pool.map(work, [videos / row[config.file] for row in rows], targets)
        for _ in track_iter_progress((done, len(rows))):
            pass
    counts = []
    for list_name, values in (("train", config.train), ("val", config.val)):
        lines = [
            f"{folder}/{path.name} {names.index(row[config.label])}\n"
            for row, path in zip(rows, targets, strict=True)
            if row[config.split] in values
        ]
        write_text(out / f"{list_name}.txt", "".join(lines))
        counts.append(len(lines))
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in names))
    return f"{out}: {counts[0]} clips to train on, {counts[1]} to validate, {len(names)} classes"


def read_rows(labels: Path, config: SmallClipsConfig) -> list[dict[str, str]]:
    """The rows of the two splits; refuses a csv that lacks a column or a split."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = (config.file, config.label, config.split)
    missing = [name for name in wanted if not rows or name not in rows[0]]
    if missing:
        raise AnnotationError(
            f"{labels} has the columns {list(rows[0]) if rows else []}; {missing} is not among them"
        )
    there = {row[config.split] for row in rows}
    absent = [value for value in (*config.train, *config.val) if value not in there]
    if absent:
        raise AnnotationError(
            f"no row of {labels} has {absent} as its {config.split!r}; there are {sorted(there)}"
        )
    return [row for row in rows if row[config.split] in (*config.train, *config.val)]


# decord 0.6 reads videos of these widths with rows of a wrong length.
MISREAD_WIDTHS = (16, 24, 48, 72)


def size_of(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Width and height of the small clip; even, as video codecs ask."""
    scale = short_side / min(height, width)
    width, height = (2 * round(side * scale / 2) for side in (width, height))
    return width + 2 * (width in MISREAD_WIDTHS), height


def targets_of(names: list[str], folder: Path) -> list[Path]:
    """Where the clip of each video goes; refused where two would be one file."""
    targets: dict[Path, str] = {}
    for name in names:
        target = (folder / name.replace("/", "-").replace(" ", "_")).with_suffix(".mp4")
        if target in targets:
            raise AnnotationError(f"{targets[target]} and {name} would both become {target}")
        targets[target] = name
    return list(targets)


def shrink(file: Path, target: Path, config: SmallClipsConfig) -> None:
    """Writes one clip, unless it is there; under a passing name until it is whole."""
    if target.exists():
        return
    fault = fault_of(str(file))
    if fault:
        raise AnnotationError(f"{file} {fault}; take its row out of the csv")
    video = decord.VideoReader(str(file), num_threads=1)
    picks = np.linspace(0, len(video) - 1, config.frames).round().astype(int)
    frames = np.stack([video[int(i)].asnumpy() for i in picks])
    height, width = frames.shape[1:3]
    size = size_of(height, width, config.short_side)
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"half-{target.name}")
    write_video(half, small)
    half.replace(target)
