"""How pictures look, on light paper and on dark.

A picture is a function without arguments that draws a `Figure`. What it leaves to matplotlib's
settings, and the colours C0, C1, ..., come out right on either paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vared_mm.report.html_page import Picture
from vared_mm.report.plot_fonts import spell_out

Draw = Callable[[], Figure]
Margins = tuple[float, float]
"""Above and below, in inches."""

# After Okabe and Ito, told apart by colour-blind readers; the pale ones darker on light paper, the
# dark ones lighter on dark paper.
LIGHT_CYCLE = ("#0072B2", "#D55E00", "#008A65", "#B8578F", "#9A6A00", "#5B4BB5", "#6F6F6F")
DARK_CYCLE = ("#56B4E9", "#E69F00", "#2DBE94", "#E3A3C6", "#F0E442", "#FF8A4C", "#B0B0B0")
COLOURS = len(LIGHT_CYCLE)

# Shares from 0 (light) to 1 (dark), as in Figure 3: a lighter field is less computed.
SHARE_MAP = "viridis_r"


class NoPictureError(ValueError):
    """There is nothing to draw: the model is static, or what the picture shows is not here."""


def settings(dark: bool) -> Any:
    """matplotlib's settings for one paper."""
    paper, ink, line = (
        ("#16191d", "#e6e6e6", "#4a5058") if dark else ("white", "#222222", "#b8bcc2")
    )
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inks, ink),
        "figure.facecolor": paper,
        "savefig.facecolor": paper,
        "axes.facecolor": paper,
        "legend.facecolor": paper,
        "axes.edgecolor": line,
        "legend.edgecolor": line,
        "grid.color": line,
        "grid.alpha": 0.5,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=DARK_CYCLE if dark else LIGHT_CYCLE),
        "font.size": 9,
        # Names are of the user: a dollar is a dollar.
        "text.parse_math": False,
    }


def png(draw: Draw, dark: bool = False, dpi: int = 130) -> bytes:
    """The picture as a PNG file's bytes."""
    with matplotlib.rc_context(settings(dark)):
        file, figure = BytesIO(), draw()
        if fonts := spell_out(figure):
            matplotlib.rcParams["font.family"] = [*matplotlib.rcParams["font.family"], *fonts]
            figure = draw()
            spell_out(figure)
        figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def panel_rows(
    heights: Sequence[float], columns: int, width: float, caption: float, margins: Margins
) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels for images, everything in inches, with room of `caption` above each row.

    Laid out by hand: matplotlib's own layout takes seconds for so many panels.
    """
    gap, (above, below) = 0.06, margins
    size = (
        max(columns * (width + gap) + gap, 4.5),
        above + sum(heights) + caption * len(heights) + below,
    )
    figure = Figure(figsize=size)
    rows, y = [], size[1] - above
    for height in heights:
        y -= caption + height
        lefts = [gap + i * (width + gap) for i in range(columns)]
        rows.append(
            [
                figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
                for x in lefts
            ]
        )
    return figure, rows


def picture(title: str, caption: str, draw: Draw) -> Picture:
    """A picture of a report, for both papers."""
    return Picture(title, caption, png(draw), png(draw, dark=True))
