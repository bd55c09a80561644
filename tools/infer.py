"""Runs a checkpoint on videos or images and tells what each one cost.

    python tools/infer.py a.mp4 b.mp4 --config CONFIG --checkpoint CHECKPOINT --json result.json

Recognition prints label, score and GMACs of each clip; localization and segmentation also draw
what they found into the folder that --out names.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from mmengine.model import BaseModel
from rich.table import Column, Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.files import new_file, new_folder, read_names, write_json
from vared_mm.flops import build_model
from vared_mm.launch import Parser, config_of, console, told_in_a_line, visible
from vared_mm.models.localization.region_head import RegionHead


@told_in_a_line()
def main() -> None:
    args = parsed()
    config = config_of(args.config, args.cfg_options)
    names = read_names(args.classes) if args.classes else []
    model: Any = on_device(build_model(config, args.checkpoint), args.device)
    task, count = task_of(model)
    if args.classes and count is not None and len(names) != count:
        raise ValueError(f"{args.classes} names {len(names)} classes, and the model has {count}")
    if names:
        model.dataset_meta = {**model.dataset_meta, "classes": names}
    channels_last(model)
    if args.out and task == "recognition":
        print("--out is left unused: of what a recognizer says nothing is drawn")
    rows = import_module(f"vared_mm.infer.{task}").infer(model, config, args.files, args.out)
    try:
        show(rows, names)
    finally:
        if args.json:
            write_json(args.json, rows)
    if any("error" in row for row in rows):
        raise SystemExit(1)


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="videos or images")
    parser.add_argument("--config", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the rows there too")
    parser.add_argument("--out", type=new_folder, metavar="FOLDER", help="for pictures and videos")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="KEY=VALUE")
    args = parser.parse_args()
    for file in (args.checkpoint, args.classes):
        if file and not Path(file).is_file():
            parser.error(f"there is no file {file}")
    if args.json and args.json.resolve() in {file.resolve() for file in args.files}:
        parser.error(f"--json would replace {args.json}, which is given to be read")
    return args


def on_device(model: BaseModel, device: str) -> BaseModel:
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device {device} cannot be used here: {error}") from error


def task_of(model: Any) -> tuple[str, int | None]:
    """By what the model is, whichever toolbox it comes from; and the number of its classes."""
    if hasattr(model, "cls_head"):
        return "recognition", getattr(model.cls_head, "num_classes", None)
    if hasattr(model, "decode_head"):
        return "segmentation", model.num_classes
    if isinstance(getattr(model, "bbox_head", None), RegionHead):
        return "localization", model.bbox_head.num_classes
    raise ValueError(
        f"wanted a recognizer with a cls_head, a segmentor with a decode_head, or a detector of "
        f"actions in clips, whose bbox_head is a RegionHead; {type(model).__name__} is none of "
        "them; tools/test.py tests detectors of objects in pictures"
    )


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
            if fault in row:
                screen.print(visible(f"{row['file']}: {row[fault]}"), soft_wrap=True)


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
