"""Videos of the recognition data sets and their labels, from the lists their authors publish."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vared_mm.datasets.folders import files_below
from vared_mm.datasets.tables import (
    DELIMITERS,
    AnnotationError,
    in_order,
    is_number,
    read_csv,
    read_lines,
    records,
)

SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mov"}
KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
# Seconds as a csv may have them: 12, 12.5 or 1.2e1.
TIME = re.compile(r"\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# Whichever delimiter the list was written with.
PATH_AND_LABEL = re.compile(
    rf"(?P<path>.*[^\s{DELIMITERS}])[\s{DELIMITERS}]+(?P<label>[0-9]{{1,18}})"
)
# YouTube's ids have 11 characters, of which some may be "_"; the times follow in most downloads.
YOUTUBE_STEM = re.compile(r"(?P<id>.{11})(_\d+_\d+)?")


@dataclass(frozen=True)
class Entry:
    """One video of the source: its name there, its path in the folder if it is there, its label."""

    name: str
    path: str | None
    label: int


def kinetics_entries(source: Path, folder: Path, classes: Mapping[str, int]) -> list[Entry]:
    """From the official csv: videos are found by id and times, or by id alone, in any subfolder."""
    files = videos_by_stem(folder)
    entries = []
    for row in kinetics_rows(source):
        label = normalised(row["label"])
        if label not in classes:
            raise AnnotationError(f"{source} has the class {row['label']!r}, which is not listed")
        name = clip_name(source, row)
        found = files.get(name) or files.get(row["youtube_id"]) or []
        # The same clip may stand in the folders of two classes.
        here = [path for path in found if normalised(Path(path).parent.name) == label]
        entries.append(Entry(name, next(iter(here or found), None), classes[label]))
    return entries


def clip_name(source: Path, row: Mapping[str, str]) -> str:
    """What downloads call the clip of a row: its YouTube id, and where it begins and ends."""
    times = [row["time_start"], row["time_end"]]
    starts = [float(time) if TIME.fullmatch(time) else math.inf for time in times]
    if not all(map(math.isfinite, starts)):
        raise AnnotationError(
            f"{source} has the times {times} for the video {row['youtube_id']!r}, wanted seconds"
        )
    start, end = map(int, starts)
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def kinetics_rows(source: Path) -> list[dict[str, str]]:
    return [row for _, row in read_csv(source, KINETICS_COLUMNS, KINETICS_COLUMNS[:2])]


def class_names(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """The classes of the rows, sorted; of several spellings of one, the first in that order."""
    names = sorted({row["label"] for row in rows}, reverse=True)
    return in_order({normalised(name): name for name in names}.values())


def videos_by_stem(folder: Path) -> dict[str, list[str]]:
    """The paths of all videos below a folder, by file name without suffix."""
    if not folder.is_dir():
        raise AnnotationError(f"there is no folder {folder}")
    files: dict[str, list[str]] = {}
    for path in files_below(folder):
        if path.suffix.lower() in SUFFIXES and (folder / path).exists():
            files.setdefault(path.stem, []).append(path.as_posix())
    return files


def moments_entries(source: Path, folder: Path, categories: Mapping[str, int]) -> list[Entry]:
    """From the official csv without header: path, category, and the votes for and against it."""
    if not folder.is_dir():
        raise AnnotationError(f"there is no folder {folder}")
    entries = []
    for line, row in records(source):
        label = normalised(row[1] if len(row) > 1 else Path(row[0]).parent.name)
        if label not in categories or not row[0]:
            raise AnnotationError(
                f"{source}, line {line} has the video {row[0]!r} and the category {label!r}; "
                f"wanted a path and one of the {len(categories)} categories that are listed"
            )
        there = (folder / row[0]).is_file()
        entries.append(Entry(row[0], row[0] if there else None, categories[label]))
    return entries


def mini_kinetics_entries(
    annotation: Path,
    kinetics: Mapping[str, int],
    classes: Mapping[str, int],
    ids: Sequence[str] | None = None,
) -> list[Entry]:
    """The part of a Kinetics-400 annotation file that has these classes and YouTube ids.

    Args:
        annotation: Of Kinetics-400, as `tools/data/kinetics400.py` writes it.
        kinetics, classes: Label by name, there and here.
        ids: Of the videos that are wanted; all by default. Those not found are entries without a
            path.
    """
    labels = {kinetics[name]: label for name, label in classes.items() if name in kinetics}
    if len(labels) < len(classes):
        unknown = sorted(set(classes) - set(kinetics))
        raise AnnotationError(f"Kinetics-400 has no class {', '.join(unknown[:5])}")
    wanted = None if ids is None else dict.fromkeys(ids)
    entries, found = [], set()
    for path, label in read_annotation(annotation):
        name = youtube_id(path)
        if label in labels and (wanted is None or name in wanted):
            entries.append(Entry(name, path, labels[label]))
            found.add(name)
    return entries + [Entry(name, None, -1) for name in wanted or () if name not in found]


def classes_of_ids(annotation: Path, kinetics: Mapping[str, int], ids: Iterable[str]) -> list[str]:
    """The classes, sorted, that the videos of a list of YouTube ids have."""
    names = {label: name for name, label in kinetics.items()}
    wanted = set(ids)
    seen = {label for path, label in read_annotation(annotation) if youtube_id(path) in wanted}
    if not seen:
        raise AnnotationError(f"none of the {len(wanted)} YouTube ids is in {annotation}")
    if not seen <= set(names):
        raise AnnotationError(
            f"{annotation} has the label {max(seen)}, but there are names for {len(names)} classes"
        )
    return in_order(names[label] for label in seen)


def read_annotation(file: Path) -> list[tuple[str, int]]:
    pairs = []
    for line in read_lines(file):
        found = PATH_AND_LABEL.fullmatch(line)
        if not found:
            raise AnnotationError(
                f"{file} has the line {line!r}, wanted a path and its label, separated by a blank "
                f"or one of {DELIMITERS!r}"
            )
        pairs.append((found["path"], int(found["label"])))
    return pairs


def youtube_id(path: str) -> str:
    found = YOUTUBE_STEM.fullmatch(Path(path).stem)
    return found["id"] if found else Path(path).stem


def read_ids(file: Path) -> list[str]:
    """YouTube ids, one a line; names of clips or files, which hold them, do as well."""
    return list(map(youtube_id, read_lines(file)))


def normalised(name: str) -> str:
    """Class names as they compare: folders write "_" for a space."""
    return re.sub(r"[\s_]+", " ", name.strip().strip("\"'")).lower()


def labels_of(names: Iterable[str], count: int, source: Path) -> dict[str, int]:
    """Label by name, in the order of the names; refuses another number of classes than wanted."""
    spelt = list(names)
    ordered = list(dict.fromkeys(map(normalised, spelt)))
    if len(ordered) < len(spelt):
        twice = next(name for name in ordered if [*map(normalised, spelt)].count(name) > 1)
        raise AnnotationError(f"{source} names the class {twice!r} twice; wanted each once")
    if len(ordered) != count:
        raise AnnotationError(
            f"{source} names {len(ordered)} classes, wanted {count}; --num-classes tells another "
            "number"
        )
    return {name: label for label, name in enumerate(ordered)}


def category_labels(file: Path, count: int) -> dict[str, int]:
    """Label by category from lines like 'yawning,0', Moments-In-Time's official form."""
    pairs = [line.rpartition(",") for line in read_lines(file)]
    if not all(name and is_number(label.strip()) for name, _, label in pairs):
        raise AnnotationError(f"{file} has lines that are not a category, a comma and its label")
    labels = {normalised(name): int(label) for name, _, label in pairs}
    if sorted(labels.values()) != list(range(count)):
        raise AnnotationError(
            f"{file} does not have the labels 0 to {count - 1}, once each; --num-classes tells "
            "another number"
        )
    return labels
