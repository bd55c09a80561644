"""Annotation files of the recognition data sets, from what `video_lists` found.

They are MMAction2's lists of videos: a path and a label on each line. Every video of the source
that is not in one stands in a second file beside it, `<name>.left_out.txt`, with the reason.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from vared_mm.datasets.check_videos import check_videos
from vared_mm.datasets.tables import AnnotationError, is_number
from vared_mm.datasets.video_lists import Entry
from vared_mm.files import new_file, write_text


def add_output_options(parser: ArgumentParser, classes: int) -> None:
    parser.add_argument("out", type=new_file, help="annotation file to write")
    parser.add_argument("--num-classes", type=int, default=classes, help="default: %(default)s")
    parser.add_argument(
        "--delimiter", default=" ", help="between path and label; 'tab' for paths with spaces"
    )


def add_check_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=positive, help="processes; default: one for each processor"
    )
    parser.add_argument(
        "--no-decode", action="store_true", help="trust every file that is there, decode none"
    )


def positive(text: str) -> int:
    if not is_number(text) or not int(text):
        raise ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def write_checked(entries: Sequence[Entry], folder: Path, args: Namespace) -> str:
    """Decodes the videos and writes those that can be read; returns what to tell of it."""
    paths = [entry.path for entry in entries if entry.path is not None]
    if not paths:
        wanted = entries[0].name if entries else "none"
        raise AnnotationError(
            f"none of the {len(entries)} videos is in {folder}; the first one is {wanted}"
        )
    if args.no_decode:
        return write_annotation(entries, {}, args.out, args.delimiter)
    if find_spec("decord") is None:
        raise AnnotationError(
            "decord, which decodes the videos, is not installed: `pip install decord`, or give "
            "--no-decode to trust every file that is there"
        )
    # Decoding may take hours.
    check_delimiter(paths, args.delimiter)
    journal = args.out.with_name(f"{args.out.stem}.checked.jsonl")
    listed = [path for path in paths if fault_of_name(path) is None]
    faults = check_videos(folder, listed, journal, args.workers)
    return write_annotation(entries, faults, args.out, args.delimiter)


def write_annotation(
    entries: Sequence[Entry], faults: Mapping[str, str | None], out: Path, delimiter: str = " "
) -> str:
    """Writes the list of videos and that of the ones left out; returns what to tell of them."""
    videos = dict.fromkeys(entries)
    delimiter = check_delimiter([entry.path for entry in videos if entry.path], delimiter)
    kept: dict[str, list[int]] = {}
    left = []
    for entry in videos:
        fault = "is missing" if entry.path is None else faults.get(entry.path)
        odd = fault_of_name(entry.path or "")
        if entry.path is None or fault or odd:
            name = repr(entry.path) if odd else entry.path or entry.name
            left.append(f"{name}\t{odd or fault}")
        else:
            kept.setdefault(entry.path, []).append(entry.label)
    list_of_left = out.with_name(f"{out.stem}.left_out.txt")
    write_text(list_of_left, "".join(f"{line}\n" for line in left))
    if not kept:
        raise AnnotationError(
            f"none of the {len(videos)} videos can be listed in {out}, as "
            f"{' '.join(left[0].split())}; all are in {list_of_left}"
        )
    lines = [f"{path}{delimiter}{label}\n" for path, labels in kept.items() for label in labels]
    write_text(out, "".join(lines))
    missing = sum(line.endswith("\tis missing") for line in left)
    twice = len(entries) - len(videos)
    unclear = [path for path, labels in kept.items() if len(labels) > 1]
    return (
        f"{out}: {len(lines)} of {len(videos)} videos; {missing} are missing and "
        f"{len(left) - missing} broken, listed in {list_of_left}"
        + (f"; {twice} lines of the source repeat another" if twice else "")
        + (f"; {len(unclear)} videos have several labels, as {unclear[0]}" if unclear else "")
    )


def fault_of_name(path: str) -> str | None:
    """Why a list, text in UTF-8 with a path on each line, cannot hold this one, or None."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "has a name that is no UTF-8: rename it"
    if path != path.strip() or "\n" in path or "\r" in path:
        return "has a name with a line break or with blanks around it: rename it"
    return None


def check_delimiter(paths: Iterable[str], delimiter: str) -> str:
    """The delimiter as it is written; refuses one that a path holds."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if not delimiter:
        raise AnnotationError("--delimiter is empty; wanted what stands between path and label")
    for path in paths:
        if delimiter in path:
            raise AnnotationError(
                f"the path {path!r} holds the delimiter {delimiter!r}: rename the folders, "
                "or give --delimiter tab here and delimiter='\\t' to VideoDataset in the config"
            )
    return delimiter
