"""Runs a model on a config's clips and tells how redundant the maps of its layers are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vared_mm.engine.views import rows_are_frames
from vared_mm.flops import loader_of
from vared_mm.method import DynamicConfig
from vared_mm.method.observe import dynamic_convs
from vared_mm.method.surgery import matching_convs
from vared_mm.models.presets import PRESETS
from vared_mm.report.redundancy import LayerTally, Thresholds, maps_of
from vared_mm.screen import tracked

AXES = ("time", "channel")
MEASURES = ("cc", "rmse", "rp")


def study(
    model: BaseModel,
    config: Config,
    samples: int,
    layers: str | None = None,
    thresholds: Thresholds | None = None,
) -> dict[str, Any]:
    """CC, RMSE and RP of every layer over `samples` clips, and their means over the layers.

    Args:
        layers: Which convolutions of the backbone; see `layers_of`.
    """
    thresholds = thresholds or Thresholds()
    if not hasattr(model, "backbone"):
        raise ValueError(f"the layers are those of a backbone, which {type(model).__name__} lacks")
    convs = layers_of(model.backbone, layers)
    tallies = {name: LayerTally(thresholds) for name in convs}
    loader = mixed_clips(config)
    count = min(samples, len(loader))
    # The rows of a 2-D network's batch are the frames of its one clip; further views of a video,
    # of which validation sets have none, would be taken for further frames.
    with torch.no_grad(), watched(convs, tallies, rows_are_frames(model)) as shapes:
        for batch in tracked(islice(loader, count), count, "batches"):
            model.test_step(batch)
    rows = [
        {"name": name, "shape": shapes.get(name), **tally.summary()}
        for name, tally in tallies.items()
    ]
    return {"samples": count, "layers": rows, "mean": mean_of(rows)}


def layers_of(backbone: nn.Module, pattern: str | None = None) -> dict[str, nn.Module]:
    """The convolutions to look at.

    Without a pattern on their full names in the backbone, those that are dynamic; in a static
    backbone those that its `VaRed` form would make dynamic.
    """
    if pattern is None and (dynamic := dynamic_convs(backbone)):
        return dict(dynamic)
    kind = type(backbone).__name__
    if pattern is None and kind not in PRESETS:
        raise ValueError(
            f"no preset tells which convolutions of a {kind} would be dynamic; name them by a "
            "regular expression with --layers, .* for all"
        )
    targets = PRESETS[kind]["targets"] if pattern is None else pattern
    return dict(matching_convs(backbone, DynamicConfig(targets=targets)))


def mixed_clips(config: Config) -> DataLoader:
    """Clip by clip, one of each video, from the validation set, or the test set without one.

    Mixed, as a list sorted by class would give the first classes alone, and the same each time.
    """
    part = "val" if config.get("val_dataloader") else "test"
    return loader_of(config, shuffle=True, part=part)


@contextmanager
def watched(
    convs: dict[str, nn.Module], tallies: dict[str, LayerTally], rows_are_frames: bool
) -> Iterator[dict[str, list[int]]]:
    """Tallies what the convolutions give out, and gathers the shape it had last, (C, T, H, W)."""
    shapes: dict[str, list[int]] = {}

    def note(name: str, module: nn.Module, args: tuple, out: Tensor) -> None:
        maps = maps_of(out, rows_are_frames)
        shapes[name] = [maps.shape[2], maps.shape[1], *out.shape[-2:]]
        try:
            tallies[name].add(maps)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    with ExitStack() as stack:
        for name, conv in convs.items():
            stack.enter_context(conv.register_forward_hook(partial(note, name)))
        yield shapes


def mean_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Over the layers that have pairs, each counting once, as in Table 12."""
    paired = {axis: [row[axis] for row in rows if row[axis]["pairs"]] for axis in AXES}
    return {
        axis: {m: fmean(row[m] for row in own) if own else None for m in MEASURES}
        for axis, own in paired.items()
    }
