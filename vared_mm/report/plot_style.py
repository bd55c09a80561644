"""How pictures look, on light paper and on dark.

A picture is a function that draws a `Figure`. What it leaves to matplotlib's settings, and the
colours C0, C1, ..., come out right on either paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vared_mm.report.plot_fonts import spell_out

# After Okabe and Ito, told apart by colour-blind readers; the pale ones darker on light paper, the
# dark ones lighter on dark paper.
LIGHT_CYCLE = ("#0072B2", "#D55E00", "#008A65", "#B8578F", "#9A6A00", "#5B4BB5", "#6F6F6F")
DARK_CYCLE = ("#56B4E9", "#E69F00", "#2DBE94", "#E3A3C6", "#F0E442", "#FF8A4C", "#B0B0B0")
COLOURS = len(LIGHT_CYCLE)

# Shares from 0 (light) to 1 (dark), as in Figure 3: a lighter field is less computed.
SHARE_MAP = "viridis_r"


class NoPictureError(ValueError):
    """There is nothing to draw: the model is static, or what the picture shows is not here."""


@dataclass(frozen=True)
class Picture:
    """The bytes of PNG files, for light paper and for dark."""

    title: str
    caption: str
    light: bytes
    dark: bytes


def picture(title: str, caption: str, draw: Callable[..., Figure], *shown: Any) -> Picture:
    return Picture(title, caption, png(draw, *shown), png(draw, *shown, dark=True))


def png(draw: Callable[..., Figure], *shown: Any, dark: bool = False) -> bytes:
    """The bytes of a PNG file of what `draw(*shown)` draws."""
    with matplotlib.rc_context(settings(dark)):
        file, figure = BytesIO(), draw(*shown)
        spell_out(figure)
        figure.savefig(file, format="png", dpi=130)
    return file.getvalue()


def settings(dark: bool) -> Any:
    """matplotlib's settings for one paper."""
    paper, ink, line = (
        ("#16191d", "#e6e6e6", "#4a5058") if dark else ("white", "#222222", "#b8bcc2")
    )
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    papers = ("figure.facecolor", "savefig.facecolor", "axes.facecolor", "legend.facecolor")
    return {
        **dict.fromkeys(inks, ink),
        **dict.fromkeys(papers, paper),
        **dict.fromkeys(("axes.edgecolor", "legend.edgecolor", "grid.color"), line),
        "grid.alpha": 0.5,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=DARK_CYCLE if dark else LIGHT_CYCLE),
        "font.size": 9,
        "legend.frameon": False,
        # Names are of the user: a dollar is a dollar.
        "text.parse_math": False,
    }


def panel_rows(
    heights: Sequence[float],
    columns: int,
    width: float,
    caption: float,
    margins: tuple[float, float],
) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels for images, without axes, in inches, with room of `caption` above each row
    and with margins above and below all.

    Laid out by hand: matplotlib's own layout takes seconds for so many panels.
    """
    gap, rows, (above, below) = 0.06, len(heights), margins
    wide = columns * (width + gap) + gap
    across, along = max(wide, 4.5), above + sum(heights) + caption * rows + below
    figure = Figure(figsize=(across, along))
    panels = figure.subplots(
        rows, columns, squeeze=False, subplot_kw=dict(frame_on=False, xticks=[], yticks=[]),
        gridspec_kw=dict(
            height_ratios=heights, wspace=gap / width, hspace=caption * rows / sum(heights),
            left=gap / across, right=(wide - gap) / across,
            bottom=below / along, top=1 - (above + caption) / along,
        ),
    )  # fmt: skip
    return figure, panels.tolist()
