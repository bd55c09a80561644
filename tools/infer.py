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
from vared_mm.files import write_json
from vared_mm.flops import build_model
from vared_mm.launch import config_of, console


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="videos or images")
    parser.add_argument("--config", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for pictures and videos")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="KEY=VALUE")
    args = parser.parse_args()
    for file in (args.checkpoint, args.classes):
        if file and not Path(file).is_file():
            raise SystemExit(f"there is no file {file}")

    config = config_of(args.config, args.cfg_options)
    model: Any = build_model(config, args.checkpoint).to(args.device)
    channels_last(model)
    names = args.classes.read_text().splitlines() if args.classes else []
    if names:
        model.dataset_meta = {**model.dataset_meta, "classes": names}
    rows = import_module(f"vared_mm.infer.{task_of(model)}").infer(
        model, config, args.files, args.out
    )
    if args.json:
        write_json(args.json, rows)
    show(rows, names)
    if any("error" in row for row in rows):
        raise SystemExit(1)


def task_of(model: BaseModel) -> str:
    """By what the model is, whichever toolbox it comes from."""
    kinds = {"cls_head": "recognition", "decode_head": "segmentation", "bbox_head": "localization"}
    for part, task in kinds.items():
        if hasattr(model, part):
            return task
    raise SystemExit(
        f"{type(model).__name__} is no recognizer, segmentor or clip detector: it has none of "
        f"{list(kinds)}"
    )


# For --json alone: too much for a line. Faults follow the table.
NOT_SHOWN = {"key_frames", "drawing", "error"}


def show(rows: list[dict[str, Any]], names: list[str]) -> None:
    """A line for each clip of a recognizer, for each file of the others, and for each fault."""
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
        console().print(table)
    for row in rows:
        if "error" in row:
            print(f"{row['file']}: {row['error']}")


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
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
