"""Boxes from what people have annotated: text per frame, masks, joints, tables, hands."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from zipfile import ZipFile, is_zipfile

import numpy as np

from vared_mm.datasets.folders import files_below, is_hidden
from vared_mm.datasets.tables import AnnotationError, is_number, read_csv, read_text, text_in
from vared_mm.datasets.tube_rows import TubeRow


def rows_of_text(source: Path, labels: Sequence[str]) -> Iterator[TubeRow]:
    """Of a folder or zip with a text file for each frame, lines of `label x1 y1 x2 y2`.

    Labels are counted from 1. Files are `<label>/<video>/<frame>.txt` or, in one folder,
    `<label>_<video>_<frame>.txt`. The n-th box of a label is that of its n-th tube in each frame.
    """
    for path, text in text_files(source):
        seen: dict[str, int] = defaultdict(int)
        for line in filter(str.strip, text.splitlines()):
            try:
                number, *box = map(float, line.split())
                label = labels[int(number) - 1] if number >= 1 and number.is_integer() else ""
            except (ValueError, IndexError):
                label, box = "", []
            if not label or len(box) != 4 or not all(map(math.isfinite, box)):
                raise AnnotationError(
                    f"{path} has the line {line!r}; wanted `label x1 y1 x2 y2` with a label from 1 "
                    f"to {len(labels)}"
                )
            video, frame = video_and_frame(path, label)
            yield TubeRow(video, f"{label} {seen[label]}", label, frame, tuple(box))
            seen[label] += 1


def text_files(source: Path) -> Iterator[tuple[Path, str]]:
    """Path within the source and content of every text file."""
    if source.is_dir():
        for path in files_below(source):
            if path.suffix.lower() == ".txt":
                yield path, read_text(source / path)
    elif source.is_file() and is_zipfile(source):
        yield from zipped_texts(source)
    else:
        raise AnnotationError(f"{source} is neither a folder nor a zip of text files")


def zipped_texts(source: Path) -> Iterator[tuple[Path, str]]:
    try:
        with ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(".txt") and not is_hidden(PurePath(name)):
                    yield Path(name), text_in(source / name, archive.read(name))
    except AnnotationError:
        raise
    # A damaged or encrypted archive may raise anything at all.
    except Exception as error:
        raise AnnotationError(f"{source} cannot be unpacked: {error}") from error


def video_and_frame(path: Path, label: str) -> tuple[str, int]:
    flat = re.fullmatch(rf"{re.escape(label)}_(.+)_([0-9]{{1,9}})", path.stem)
    if flat:
        return f"{label}/{flat[1]}", int(flat[2])
    if is_number(path.stem) and len(path.parts) > 2:
        return "/".join(path.parts[-3:-1]), int(path.stem)
    raise AnnotationError(
        f"{path} tells no video and frame; wanted <label>/<video>/<frame>.txt or "
        f"<label>_<video>_<frame>.txt, with the label {label!r} of its first line"
    )


def rows_of_masks(folder: Path) -> Iterator[TubeRow]:
    """Of J-HMDB's `puppet_mask/<label>/<video>/puppet_mask.mat`: the extent of each mask."""
    for video, content in matlab_files(folder, "puppet_mask.mat", "part_mask"):
        for frame, mask in enumerate(np.moveaxis(content, -1, 0), 1):
            rows, columns = np.nonzero(mask)
            if len(rows):
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                yield TubeRow(video, "0", video.split("/")[0], frame, tuple(map(float, box)))


def rows_of_joints(folder: Path, margin: float = 0.1) -> Iterator[TubeRow]:
    """Of J-HMDB's `joint_positions/<label>/<video>/joint_positions.mat`: the joints' extent, grown
    at each side by `margin` of it, as joints lie inside of the body."""
    for video, content in matlab_files(folder, "joint_positions.mat", "pos_img"):
        for frame, joints in enumerate(np.moveaxis(content, -1, 0), 1):
            # MATLAB counts pixels from 1.
            low, high = joints.min(axis=1) - 1, joints.max(axis=1) - 1
            grown = margin * (high - low)
            box = (*(low - grown), *(high + grown))
            yield TubeRow(video, "0", video.split("/")[0], frame, tuple(map(float, box)))


def matlab_files(folder: Path, name: str, variable: str) -> Iterator[tuple[str, np.ndarray]]:
    """Of each video the variable, whose last dimension is that of the frames."""
    from scipy.io import loadmat

    found = sorted(folder.glob(f"*/*/{name}"))
    if not found:
        raise AnnotationError(f"there is no <label>/<video>/{name} in {folder}")
    for path in found:
        try:
            content = loadmat(path)
        # A damaged file, or one of MATLAB 7.3, may raise anything at all.
        except Exception as error:
            raise AnnotationError(f"{path} cannot be read: {error}") from error
        if variable not in content:
            raise AnnotationError(f"{path} has no {variable}; it has {sorted(content)}")
        # MATLAB leaves out a last dimension of 1.
        array = np.atleast_3d(content[variable])
        if array.ndim != 3 or array.dtype.kind not in "biuf":
            raise AnnotationError(
                f"{path} has {variable} of {array.dtype} and the shape {array.shape}; wanted "
                "numbers, of three dimensions, the last one that of the frames"
            )
        yield path.parent.relative_to(folder).as_posix(), array


COLUMNS = ("video", "tube", "label", "frame", "x1", "y1", "x2", "y2")


def rows_of_table(file: Path) -> Iterator[TubeRow]:
    """Of a csv with the columns `COLUMNS`; videos have no suffix, labels are names."""
    for line, row in read_csv(file, COLUMNS, ("video", "label", "frame")):
        try:
            box = tuple(float(row[name]) for name in COLUMNS[4:])
            frame = int(row["frame"])
        except ValueError as error:
            raise AnnotationError(f"{file}, line {line}: {error}") from None
        if not all(map(math.isfinite, box)) or not is_number(row["frame"]):
            raise AnnotationError(
                f"{file}, line {line} has the frame {row['frame']} and the box {box}; wanted a "
                "whole number and x1 y1 x2 y2 in pixels"
            )
        yield TubeRow(row["video"], row["tube"], row["label"], frame, box)


def rows_of_hands(folder: Path) -> Iterator[TubeRow]:
    """Of asl24's `labels.csv` and `tubes_auto.npz`: boxes of hands, of the clean clips alone."""
    table, arrays = folder / "labels.csv", folder / "tubes_auto.npz"
    labels = {row["file"]: row["label"] for _, row in read_csv(table, ("file", "label"))}
    try:
        with np.load(arrays) as tubes:
            held = [tubes[name] for name in ("files", "clean", "boxes_xyxy_200")]
    # A damaged archive may raise anything at all.
    except Exception as error:
        raise AnnotationError(f"{arrays} cannot be read: {error}") from error
    if len(set(map(len, held))) > 1:
        raise AnnotationError(f"{arrays} has arrays of different lengths, {[*map(len, held)]}")
    for file, clean, boxes in zip(*held, strict=True):
        if clean and file not in labels:
            raise AnnotationError(f"{table} has no row for {file}, which is in {arrays}")
        for frame, box in enumerate(boxes if clean else (), 1):
            yield TubeRow(Path(file).stem, "0", labels[file], frame, tuple(map(float, box)))
