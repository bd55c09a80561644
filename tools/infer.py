"""Runs a checkpoint on videos or images and tells what each one cost.

    python tools/infer.py a.mp4 b.mp4 --config CONFIG --checkpoint CHECKPOINT --json result.json
    python tools/infer.py grow_000.mp4

Recognition prints label, score and GMACs of each clip; localization and segmentation also draw
what they found into the folder that --out names. Without config and checkpoint it is the demo's
network, which comes along and knows nine motions. Interrupted, it tells of what was answered.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.table import Column, Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import new_file, new_folder, write_json
from vared_mm.infer.network import NetworkParser, network_named
from vared_mm.infer.rows import StoppedError
from vared_mm.launch import told_in_a_line
from vared_mm.printing import console, visible


@told_in_a_line()
def main() -> None:
    args = parsed()
    network = network_named(args)
    if args.out and network.task == "recognition":
        print("--out is left unused: vared-mm live draws what a recognizer says")
    infer = import_module(f"vared_mm.infer.{network.task}").infer
    try:
        rows = infer(network.model, network.config, args.files, args.out)
    except StoppedError as stopped:
        tell(stopped.rows, network.names, args.json)
        raise
    tell(rows, network.names, args.json)
    if any("error" in row for row in rows):
        raise SystemExit(1)


def parsed() -> argparse.Namespace:
    parser = NetworkParser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="videos or images")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows there too")
    parser.add_argument("--out", type=new_folder, metavar="FOLDER", help="for pictures and videos")
    return parser.parse_args()


def tell(rows: list[dict[str, Any]], names: list[str], file: Path | None) -> None:
    try:
        show(rows, names)
    finally:
        if file:
            write_json(file, rows)


# For --json alone: too much for a line. Faults follow the table.
NOT_SHOWN = {"key_frames", "drawing", "error", "warning"}


def show(rows: list[dict[str, Any]], names: list[str]) -> None:
    """A line for each clip of a recognizer, for each file of the others, and for each fault."""
    screen = console()
    good = [row for row in rows if "error" not in row]
    lines = [
        line for row in good for line in ([row] if "clips" not in row else clips_of(row, names))
    ]
    if lines:
        columns = [
            key for key in dict.fromkeys(key for line in lines for key in line)
            if key not in NOT_SHOWN
        ]  # fmt: skip
        table = Table(*(Column(column.replace("_", " "), overflow="fold") for column in columns))
        for line in lines:
            table.add_row(*(text_of(line.get(column)) for column in columns))
        screen.print(table)
    for row in rows:
        for fault in ("error", "warning"):
            if told := row.get(fault):
                named = told if told.startswith(f"{row['file']} ") else f"{row['file']}: {told}"
                screen.print(visible(named), soft_wrap=True)


def clips_of(row: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    lines = []
    for number, clip in enumerate(row["clips"], 1):
        known = clip["label"] < len(names)
        label = names[clip["label"]] if known else clip["label"]
        place = f"{number} of {len(row['clips'])}"
        lines.append({"file": row["file"], "clip": place, **clip, "label": label})
    return lines


def text_of(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text_of(part)}" for key, part in list(value.items())[:3])
    if isinstance(value, list):
        return ", ".join(f"{tube['name']} {text_of(tube['score'])}" for tube in value[:3]) or "none"
    return (
        "" if value is None else f"{value:.3f}" if isinstance(value, float) else visible(str(value))
    )


if __name__ == "__main__":
    main()
