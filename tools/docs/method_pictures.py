"""Draws the pictures of docs/method.md.

python tools/docs/method_pictures.py docs/images
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

COMPUTED, REBUILT, GATE, INK = "#0b7a75", "#bfe3e0", "#f4c98b", "#222222"
# Text stays text, and a file is the same whenever it is drawn.
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "vared_mm", "font.family": "sans-serif"}


def main() -> None:
    folder = Path(sys.argv[1])
    for name, draw in {"layer": layer, "axes": axes, "loss": loss}.items():
        with rc_context(STYLE):
            draw().savefig(folder / f"method_{name}.svg", metadata={"Date": None})


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose units are tenths of an inch."""
    figure = Figure(figsize=(width / 10, height / 10))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=(0, width), ylim=(0, height))
    panel.axis("off")
    return figure, panel


def box(panel: Axes, x: float, y: float, width: float, height: float, text: str, fill: str) -> None:
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=fill, ec=INK, lw=0.8
    )
    panel.add_patch(shape)
    ink = "white" if fill == COMPUTED else INK
    panel.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, color=ink)


def arrow(panel: Axes, *places: tuple[float, float]) -> None:
    """Straight, from one place to the next."""
    for start, end in pairwise(places):
        head = "-|>" if end == places[-1] else "-"
        panel.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle=head, mutation_scale=9, lw=1, color=INK, shrinkA=0, shrinkB=0
            )
        )


def label(panel: Axes, x: float, y: float, text: str, **look: Any) -> None:
    usual: dict[str, Any] = dict(ha="center", va="center", fontsize=9, color=INK)
    panel.text(x, y, text, **{**usual, **look})


def layer() -> Figure:
    """One dynamic convolution in evaluation, from X to Y."""
    figure, panel = canvas(78, 30)
    box(panel, 1, 10, 7, 8, "X", "white")
    box(panel, 14, 22, 14, 6, "gate", GATE)
    box(panel, 14, 9, 14, 10, "convolution\nfirst k filters,\nevery R-th frame", COMPUTED)
    box(panel, 33, 9, 11, 10, "channels\nΦc", REBUILT)
    box(panel, 49, 9, 11, 10, "frames\nΦt", REBUILT)
    box(panel, 69, 10, 7, 8, "Y", "white")
    arrow(panel, (8, 14), (14, 14))
    arrow(panel, (11, 14), (11, 25), (14, 25))
    arrow(panel, (21, 22), (21, 19))
    label(panel, 21.8, 20.4, "which k, R", ha="left")
    arrow(panel, (28, 14), (33, 14))
    arrow(panel, (44, 14), (49, 14))
    arrow(panel, (60, 14), (69, 14))
    arrow(panel, (28, 25), (38.5, 25), (38.5, 19))
    arrow(panel, (38.5, 25), (54.5, 25), (54.5, 19))
    label(panel, 39.3, 22, "V_c", ha="left")
    label(panel, 55.3, 22, "V_t", ha="left")
    for x, text in ((30.5, "Y′"), (46.5, "Y_c")):
        label(panel, x, 15.6, text)
    label(panel, 21, 6.4, "nearly all of the MACs", fontsize=8)
    label(panel, 46.5, 6.4, "depthwise, one multiplication for each tap", fontsize=8)
    label(panel, 39, 2, "one sample; another sample of the batch may open other paths", fontsize=8)
    return figure


def axes() -> Figure:
    """Which maps are computed and which are rebuilt, on either axis and on both."""
    figure, panel = canvas(78, 35)
    shown = (
        (3, "channel path r = ½: k = 4 of 8", 4, 1),
        (29, "time path R = 2: every 2nd frame", 8, 2),
        (55, "both: a quarter is computed", 4, 2),
    )
    for left, title, width, step in shown:
        maps(panel, left, width, step)
        label(panel, left + 10, 32.5, title)
    for left, text in ((3, "c is rebuilt from c − k"), (29, "a copy at first")):
        label(panel, left + 10, 4.6, text, fontsize=8)
    for x, fill, text in ((25, COMPUTED, "computed"), (43, REBUILT, "rebuilt by Φ")):
        panel.add_patch(Rectangle((x, 0.8), 2, 2, fc=fill, ec=INK, lw=0.6))
        label(panel, x + 3, 1.8, text, ha="left", fontsize=8)
    return figure


def maps(panel: Axes, left: float, width: int, step: int) -> None:
    """8 channels, from the top, by 8 frames of 2.5 units; with arrows from where one is rebuilt."""
    size, top = 2.5, 27.5
    for channel in range(8):
        for frame in range(8):
            computed = channel < width and frame % step == 0
            place = (left + size * frame, top - size * (channel + 1))
            fill = COMPUTED if computed else REBUILT
            panel.add_patch(Rectangle(place, size, size, fc=fill, ec="white", lw=1))

    def centre(channel: int, frame: int) -> tuple[float, float]:
        return left + size * (frame + 0.5), top - size * (channel + 0.5)

    if width < 8:
        arrow(panel, centre(1, 4), centre(1 + width, 4))
    if step > 1:
        arrow(panel, centre(2, 2), centre(2, 3))
    label(panel, left + 10, 29, "frames →", fontsize=8)
    label(panel, left - 1.3, 17.5, "channels", rotation=90, fontsize=8)


def loss() -> Figure:
    """What a right sample pays for the share that it computes, with and without a target."""
    figure = Figure(figsize=(6.2, 2.9), layout="constrained")
    panel = figure.subplots()
    shares = [i / 100 for i in range(101)]
    for target, colour in ((0.0, COMPUTED), (0.5, "#d55e00")):
        paid = [max(share - target, 0) ** 2 for share in shares]
        panel.plot(shares, paid, color=colour, label=f"right, target {target:g}", lw=2)
    panel.plot([0, 1], [0, 0], color="#6f6f6f", ls="--", label="wrong: μ0 = 0", lw=2)
    panel.set(xlabel="share s of the dynamic convolutions' MACs", ylabel="efficiency loss")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
