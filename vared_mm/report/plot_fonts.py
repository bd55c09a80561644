"""Letters of all scripts in pictures: by an installed font that has them, or as escapes.

matplotlib draws the same box for each letter that its font lacks, and names would look alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from vared_mm.launch import escape, visible

# It has a sign for each script, not for each letter.
NO_LETTERS = "Last Resort"


def spell_out(figure: Figure) -> list[str]:
    """Replaces the letters that no font has by escapes.

    Returns:
        Families to draw the figure again with, as they have letters that those of now lack.
    """
    texts = figure.findobj(Text)
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    letters = {c for text in texts for c in text.get_text()}
    letters |= {c for axis in axes for label in labels_of(axis) for c in label}
    letters.discard("\n")
    hidden = {c for c in letters if visible(c) != c}
    lacking = [
        c for c in sorted(letters - hidden) if not any(c in letters_of(f) for f in files_of_now())
    ]
    found = {c: family_with(c) for c in lacking}
    escapes = {ord(c): escape(c) for c in {*hidden, *lacking} if not found.get(c)}
    for text in texts:
        text.set_text(text.get_text().translate(escapes))
    for axis in axes:
        if labels := labels_of(axis):
            axis.set_ticks(axis.get_majorticklocs(), [x.translate(escapes) for x in labels])
    return [family for family in dict.fromkeys(found.values()) if family]


def labels_of(axis: Axis) -> list[str]:
    """Those that were given one by one."""
    formatter = axis.get_major_formatter()
    if not isinstance(formatter, FuncFormatter):
        return []
    return [formatter(place, i) for i, place in enumerate(axis.get_majorticklocs())]


def files_of_now() -> Iterable[str]:
    """Of the families that texts are drawn with."""
    for family in matplotlib.rcParams["font.family"]:
        yield fontManager.findfont(FontProperties(family=[family]))


@cache
def letters_of(file: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(file).get_charmap()))


@cache
def family_with(letter: str) -> str | None:
    for font in fontManager.ttflist:
        if not font.name.startswith(NO_LETTERS) and letter in readable_letters(font.fname):
            return font.name
    return None


def readable_letters(file: str) -> frozenset[str]:
    """None of what matplotlib cannot draw, as pictures of emoji."""
    try:
        return letters_of(file) if get_font(file).scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
