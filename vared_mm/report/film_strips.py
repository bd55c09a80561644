"""Figure 4: what the clips look like that take the most and the least computation of their class.

A strip shows frames as the network saw them: decoded, sampled, resized and cropped by the test
pipeline, before they are normalised. Frames are (T, H, W, 3) uint8 in RGB; an image is one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vared_mm.report.plot_style import panel_rows

FRAMES = 8


@dataclass(frozen=True)
class Strip:
    """A clip or an image, and the share of the dynamic convolutions' MACs that it took."""

    group: str
    file: str
    share: float
    frames: np.ndarray

    @property
    def title(self) -> str:
        return f"{self.group}: {100 * self.share:.1f}% ({Path(self.file).name})"


def frames_seen(packed: dict[str, Any], bgr: bool) -> np.ndarray:
    """The frames of a data set's sample; of several views or clips the first.

    Args:
        packed: What a test pipeline gives: `inputs` of (views, C, T, H, W), of (T, C, H, W) for
            2-D networks on clips, or (C, H, W).
        bgr: The channels are in OpenCV's order.
    """
    inputs: Tensor = packed["inputs"]
    frames = inputs[0].movedim(0, -1) if inputs.ndim == 5 else inputs.movedim(-3, -1)
    frames = frames if frames.ndim == 4 else frames[None]
    if frames.shape[-1] != 3:
        # Grey, or optical flow: its mean.
        frames = frames.float().mean(-1, keepdim=True).expand(-1, -1, -1, 3)
    if frames.dtype != torch.uint8:
        # Normalised by the pipeline itself: the range is all that is left to go by.
        low, high = frames.min(), frames.max()
        frames = ((frames - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    return (frames.flip(-1) if bgr else frames).numpy()


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` places of `count`, from the first to the last."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()


def film_strips(strips: Sequence[Strip]) -> Figure:
    """A row for each strip, of as many frames as there is room for."""
    shown = [strip.frames[evenly(len(strip.frames), FRAMES)] for strip in strips]
    columns = max(map(len, shown))
    width = 3.0 if columns == 1 else 1.1
    heights = [width * frames.shape[1] / frames.shape[2] for frames in shown]
    figure, rows = panel_rows(heights, columns, width, 0.3, (0, 0.06))
    for panels, strip, frames in zip(rows, strips, shown, strict=True):
        panels[0].set_title(strip.title, fontsize=8, loc="left")
        for panel, frame in zip(panels, frames, strict=False):
            panel.imshow(frame)
    return figure
