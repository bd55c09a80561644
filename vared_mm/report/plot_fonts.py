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
from matplotlib.ticker import FixedFormatter

from vared_mm.launch import visible

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
    missing = [c for c in sorted(letters) if not any(c in letters_of(f) for f in files_of_now())]
    found = {c: family_with(c) for c in missing if c.isprintable()}
    escapes = {ord(c): visible_or_escape(c) for c in missing if not found.get(c) and c != "\n"}
    for text in texts:
        text.set_text(text.get_text().translate(escapes))
    for axis in axes:
        if labels := labels_of(axis):
            axis.set_major_formatter(FixedFormatter([x.translate(escapes) for x in labels]))
    return [family for family in dict.fromkeys(found.values()) if family]


def labels_of(axis: Axis) -> list[str]:
    """Those that were given one by one."""
    formatter = axis.get_major_formatter()
    return list(formatter.seq) if isinstance(formatter, FixedFormatter) else []


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


def visible_or_escape(letter: str) -> str:
    shown = visible(letter)
    return shown if shown != letter else letter.encode("unicode_escape").decode()
