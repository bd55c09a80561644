"""The trained network that a command line names: its options, and what they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel

from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.files import read_names
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.models.localization.region_head import RegionHead
from vared_mm.options import KeyValues, Parser
from vared_mm.shipped import CONFIG, TRAINED


@dataclass(frozen=True)
class NamedNetwork:
    """A model in evaluation mode, what it does, and the names of its classes, if known."""

    model: Any
    config: Config
    task: str
    names: list[str]


class NetworkParser(Parser):
    """A parser with the options that name a network, by default the one that comes along; it
    refuses files that are not there."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description)
        own = "default: that of the demo's dynamic network, which comes along"
        self.add_argument("--config", help=own)
        self.add_argument("--checkpoint", help=own)
        self.add_argument("--classes", metavar="FILE", help="class names, one a line")
        self.add_argument("--device", default="cpu", help="default: %(default)s")
        self.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = super().parse_args(args, namespace)
        if (args.config is None) != (args.checkpoint is None):
            self.error("--config and --checkpoint belong together; give both or neither")
        if args.config is None:
            args.config, args.checkpoint = str(CONFIG), str(TRAINED)
        for file in (args.checkpoint, args.classes):
            if file and not Path(file).is_file():
                self.error(f"there is no file {file}")
        return args


def network_named(args: argparse.Namespace) -> NamedNetwork:
    """Raises ValueError where the names are not as many as the model's classes, or the device
    cannot be used."""
    config = config_of(args.config, args.cfg_options)
    names = read_names(args.classes) if args.classes else []
    model: Any = on_device(build_model(config, args.checkpoint), args.device)
    task, count = task_of(model)
    if args.classes and count is not None and len(names) != count:
        raise ValueError(f"{args.classes} names {len(names)} classes, and the model has {count}")
    if names:
        model.dataset_meta = {**model.dataset_meta, "classes": names}
    channels_last(model)
    return NamedNetwork(model, config, task, list(model.dataset_meta.get("classes") or []))


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
        "them; vared-mm test tests detectors of objects in pictures"
    )
