"""Which feature maps of a layer were computed for one clip, and which were rebuilt from them.

A map is one channel of one frame of a dynamic convolution's output. The widest open path decides:
the first k channels of frames 0, R, 2R, ... are computed, every other map is rebuilt.
C channels, T frames, H x W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from vared_mm.method.cost import Pass
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import record_cost
from vared_mm.report.film_strips import evenly
from vared_mm.report.plot_style import panel_rows

# Maps in a row of a picture, and rows; layers that are drawn unasked.
ROOM, LAYERS = 8, 4
COMPUTED: dict[str, Any] = dict(label="computed", color="C0", linestyle="-", linewidth=2.5)
REBUILT: dict[str, Any] = dict(label="rebuilt", color="C1", linestyle=(0, (2, 1)), linewidth=2.5)


@dataclass(frozen=True)
class LayerMaps:
    """The output (C, T, H, W) of a layer for one clip, and which maps (C, T) were computed."""

    name: str
    maps: np.ndarray
    computed: np.ndarray


def chosen_layers(layers: Sequence[str], share: np.ndarray, pattern: str | None) -> list[str]:
    """The layers whose full names match.

    Without a pattern those of the least share (L,), at most four that skip something; one of those
    that compute all where none skips.
    """
    if pattern is None:
        least = np.argsort(share, kind="stable")[:LAYERS]
        return [layers[i] for i in sorted(least) if share[i] < 1] or [layers[least[0]]]
    try:
        names = [name for name in layers if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ValueError(f"--layers {pattern!r} is not a regular expression: {error}") from error
    if not names:
        raise ValueError(
            f"--layers {pattern!r} matches the full name of none of the {len(layers)} dynamic "
            f"convolutions, which are named like {layers[0]!r}"
        )
    return names


@contextmanager
def kept_maps(convs: dict[str, _Dynamic], rows_are_frames: bool) -> Iterator[list[LayerMaps]]:
    """Keeps what the convolutions give out for one clip, in the order they run.

    Of several views or passes, as windows over an image are, the first is kept.

    Args:
        rows_are_frames: The rows of a 2-D convolution's batch are the clip's frames.
    """
    kept: list[LayerMaps] = []

    def keep(name: str, passes: list[Pass], conv: _Dynamic, args: tuple, out: Tensor) -> None:
        if name in (layer.name for layer in kept):
            return
        rows = slice(None) if rows_are_frames and out.ndim == 4 else slice(1)
        # (C, T, H, W) of one row's frames, or of the rows that are frames.
        maps = out[rows].transpose(0, 1) if out.ndim == 4 else out[0]
        frames = maps.shape[1] if out.ndim == 5 else 1
        masks = [computed(conv, gates, frames) for gates in passes[-1].gates[rows]]
        kept.append(LayerMaps(name, maps.float().cpu().numpy(), np.concatenate(masks, 1)))

    with ExitStack() as stack:
        for name, conv in convs.items():
            passes = stack.enter_context(record_cost(conv)).seen
            stack.enter_context(conv.register_forward_hook(partial(keep, name, passes)))
        yield kept


def computed(conv: _Dynamic, gates: Tensor, frames: int) -> np.ndarray:
    """(C, frames): which maps one sample's gates (G,) let be computed."""
    k, step = conv.extent(tuple((gates > 0).tolist()))
    channels, times = np.arange(conv.out_channels) < k, np.arange(frames) % step == 0
    return channels[:, None] & times


def draw_maps(layer: LayerMaps) -> Figure:
    """Maps with a blue frame were computed, those with a dashed orange one rebuilt.

    Of clips channels are rows and frames columns; of images the computed channels come first. Each
    map is scaled by itself.
    """
    rows = maps_to_show(layer.computed)
    height = 0.95 * layer.maps.shape[2] / layer.maps.shape[3]
    figure, panels = panel_rows([height] * len(rows), max(map(len, rows)), 0.95, 0.18, (0.2, 0.4))
    for line, row in zip(panels, rows, strict=True):
        for panel, (channel, frame) in zip(line, row, strict=False):
            look = COMPUTED if layer.computed[channel, frame] else REBUILT
            panel.imshow(layer.maps[channel, frame], cmap="gray")
            panel.set_frame_on(True)
            for spine in panel.spines.values():
                spine.set(visible=True, capstyle="butt", **look)
            panel.set_title(f"c{channel} t{frame}", fontsize=6, pad=2)
    share = 100 * layer.computed.mean()
    figure.suptitle(f"{layer.name}: {share:.0f}% of its maps computed", fontsize=9, y=0.995)
    figure.legend(
        handles=[Line2D([], [], **COMPUTED), Line2D([], [], **REBUILT)], loc="lower center", ncols=2
    )
    return figure


def maps_to_show(computed: np.ndarray) -> list[list[tuple[int, int]]]:
    """The maps (channel, frame) to show, row by row: half computed channels, half rebuilt ones."""
    whole = computed.any(1)
    kinds = [np.flatnonzero(whole), np.flatnonzero(~whole)]
    frames = range(min(computed.shape[1], ROOM))
    if computed.shape[1] == 1:
        rows = [own[evenly(len(own), ROOM)] for own in kinds if len(own)]
        return [[(int(channel), 0) for channel in row] for row in rows]
    room = ROOM // 2 if len(kinds[1]) else ROOM
    channels = [int(own[i]) for own in kinds if len(own) for i in evenly(len(own), room)]
    return [[(channel, frame) for frame in frames] for channel in channels]
