"""A data set of one's own, from a csv of labels, as small clips that cost little to decode.

Every video becomes `frames` frames spread evenly over it, its short side `short_side` pixels.
Beside the clips stand `train.txt` and `val.txt`, MMAction2's lists, and `classes.txt`.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.tables import AnnotationError, are_numbers, in_order, read_csv
from vared_mm.datasets.video_faults import MISREAD_WIDTHS, fault_of, first_line, open_video
from vared_mm.datasets.video_lists import normalised
from vared_mm.files import check_kept, write_json, write_text
from vared_mm.screen import tracked

LONGEST_NAME = 255
MOST_NAMED = 20  # videos in an error


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
    """Writes the clips and their lists into the folder `out`; clips that are there already stay,
    unless their videos are others meanwhile.

    Clips of another length or size stand in another folder of `out`. A json beside each tells how
    large the videos were.

    Returns:
        What to tell of it.

    Raises:
        AnnotationError: A column, a split, a label or videos are missing, videos are broken, two
            would be one clip, or lists that are not ours would be replaced.
    """
    rows = read_rows(labels, videos, config)
    names = classes_of(rows, config, out)
    folder = f"clips_{config.frames}x{config.short_side}"
    targets = targets_of([row[config.file] for row in rows], out / folder)
    files = [videos / row[config.file] for row in rows]
    lists = {name: out / f"{name}.txt" for name in ("train", "val", "classes")}
    check_own(out, list(lists.values()), [labels, *files])
    missing = shrink_all(files, targets, config, out / f"{folder}.json")
    counts = []
    for list_name, values in (("train", config.train), ("val", config.val)):
        lines = [
            f"{folder}/{path.name} {names.index(row[config.label])}\n"
            for row, path in zip(rows, targets, strict=True)
            if row[config.split] in values
        ]
        write_text(lists[list_name], "".join(lines))
        counts.append(len(lines))
    write_text(lists["classes"], "".join(f"{name}\n" for name in names))
    return (
        f"{out}: {counts[0]} clips to train on, {counts[1]} to validate, {len(names)} classes"
        + "".join(f"; {note}" for note in slips(rows, config, names))
        + (f"; clips that stay and whose videos are not there: {missing}" if missing else "")
    )


def check_own(out: Path, lists: Sequence[Path], read: Sequence[Path]) -> None:
    """Before the work: the lists replace neither what is read nor those of somebody else."""
    for file in lists:
        check_kept(read, file)
        if file.exists() and not any(out.glob("clips_*x*")):
            raise AnnotationError(
                f"{file} would be replaced, and {out} holds no clips of former calls beside it; "
                "choose another folder"
            )


def classes_of(rows: Sequence[dict[str, str]], config: SmallClipsConfig, out: Path) -> list[str]:
    """In the order that a former call gave them, for checkpoints answer in it."""
    names, former = in_order(row[config.label] for row in rows), out / "classes.txt"
    kept = former.read_text(encoding="utf-8").splitlines() if former.is_file() else []
    return kept if sorted(kept) == sorted(names) else names


def slips(
    rows: Sequence[dict[str, str]], config: SmallClipsConfig, names: Sequence[str]
) -> list[str]:
    """What looks like a slip of who wrote the labels."""
    notes = []
    if are_numbers(names):
        others = [(n, name) for n, name in enumerate(names) if int(name) != n]
        notes += [f"the class {name!r} has the number {n}" for n, name in others[:1]]
    for values, what in ((config.train, "train on"), (config.val, "validate")):
        there = {row[config.label] for row in rows if row[config.split] in values}
        lacking = [name for name in names if name not in there]
        if lacking:
            notes.append(f"there is no clip to {what} of {lacking}")
    spelt: dict[str, list[str]] = {}
    for name in names:
        spelt.setdefault(normalised(unicodedata.normalize("NFKC", name)), []).append(name)
    alike = [same for same in spelt.values() if len(same) > 1]
    return notes + [f"the classes {same} are spelt nearly alike" for same in alike]


def read_rows(labels: Path, videos: Path, config: SmallClipsConfig) -> list[dict[str, str]]:
    """The rows of the two splits; refuses what tells no class or split, or two of one video."""
    wanted = (config.file, config.label, config.split)
    # Rows of other splits may well have no label.
    table = read_csv(labels, wanted, (config.file, config.split))
    there = {row[config.split] for _, row in table}
    absent = [value for value in (*config.train, *config.val) if value not in there]
    if absent:
        raise AnnotationError(
            f"no row of {labels} has {absent} as its {config.split!r}; there are {sorted(there)}"
        )
    rows: dict[str, tuple[int, dict[str, str]]] = {}
    for line, row in table:
        if row[config.split] in (*config.train, *config.val):
            name = row[config.file]
            if not row[config.label]:
                raise AnnotationError(f"{labels}, line {line} has no {config.label} for {name}")
            # However it is spelt, and by way of links.
            first, before = rows.setdefault(os.path.realpath(videos / name), (line, row))
            if (told := [row[key] for key in wanted[1:]]) != [before[key] for key in wanted[1:]]:
                raise AnnotationError(
                    f"{labels}, lines {first} and {line} tell two things of {name}: "
                    f"{[before[key] for key in wanted[1:]]} and {told}"
                )
    return [row for _, row in rows.values()]


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Width and height of the small clip; even, as video codecs ask."""
    scale = short_side / min(height, width)
    width, height = (2 * round(side * scale / 2) for side in (width, height))
    while width in MISREAD_WIDTHS:
        width += 2
    return width, height


def targets_of(names: list[str], folder: Path) -> list[Path]:
    """Where the clip of each video goes; refused where two would be one file."""
    targets: dict[Path, str] = {}
    for name in names:
        target = (folder / re.sub(r"\s", "_", name.replace("/", "-"))).with_suffix(".mp4")
        if target in targets:
            raise AnnotationError(f"{targets[target]} and {name} would both become {target}")
        if (length := len(os.fsencode(target.name))) > LONGEST_NAME:
            raise AnnotationError(
                f"the clip of {name} would have a name of {length} bytes, of which file systems "
                f"take {LONGEST_NAME}; give as videos a folder nearer to it, or rename it"
            )
        targets[target] = name
    return list(targets)


def shrink_all(
    files: Sequence[Path], targets: Sequence[Path], config: SmallClipsConfig, kept: Path
) -> int:
    """Writes the clips, and into `kept` the sizes of their videos; returns how many clips stay
    whose videos are not there."""
    sizes = read_sizes(kept)

    def made(file: Path, target: Path) -> bool | AnnotationError:
        try:
            return shrink(file, target, config, sizes)
        except AnnotationError as error:
            return error

    try:
        with ThreadPoolExecutor() as pool:
            done = list(tracked(pool.map(made, files, targets), len(files), "making clips"))
    finally:
        # Also of those that were made before it was interrupted.
        if sizes:
            write_json(kept, sizes)
    if faults := [str(one) for one in done if isinstance(one, AnnotationError)]:
        named = "; ".join(faults[:MOST_NAMED])
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise AnnotationError(f"{named}{more}; take out of the csv what cannot be mended")
    return done.count(False)


def read_sizes(file: Path) -> dict[str, int]:
    try:
        return dict(json.loads(file.read_text())) if file.exists() else {}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{file}, which tells how large the videos were, is damaged ({error}); remove it and "
            "start again: a video is then known by its time alone"
        ) from error


def shrink(file: Path, target: Path, config: SmallClipsConfig, sizes: dict[str, int]) -> bool:
    """Writes one clip, unless it is there.

    A video that was exchanged meanwhile is known by its time, which the clip has too, or by its
    size in bytes, which `sizes` tells by the name of the clip; of clips of former versions not.

    Returns:
        Whether the video is there.
    """
    if target.exists():
        if not file.exists():
            return False
        told = modified_at(target), sizes.get(target.name, file.stat().st_size)
        if told == (modified_at(file), file.stat().st_size):
            return True
    fault = fault_of(str(file))
    if fault:
        raise AnnotationError(f"{file} {fault}")
    small = small_frames(file, config)
    write_video(target, small)
    # Until then its time is no video's, and an interrupted call makes it anew.
    os.utime(target, ns=(modified_at(file), modified_at(file)))
    sizes[target.name] = file.stat().st_size
    return True


def modified_at(file: Path) -> int:
    return file.stat().st_mtime_ns


def small_frames(file: Path, config: SmallClipsConfig) -> np.ndarray:
    """RGB, (frames, height, width, 3)."""
    try:
        video = open_video(file)
        picks = np.linspace(0, len(video) - 1, config.frames).round().astype(int)
        frames = [video[int(i)].asnumpy() for i in picks]
    # What decord raises does not tell of which file.
    except Exception as error:
        raise AnnotationError(f"{file} cannot be decoded ({first_line(error)})") from error
    height, width = frames[0].shape[:2]
    size = scaled_size(height, width, config.short_side)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
