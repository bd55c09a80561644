"""Letters of all scripts in plots: by an installed font that has them, or as escapes.

matplotlib draws the same box for each letter that its font lacks, and names would look alike.
"""

from __future__ import annotations

from functools import cache

from matplotlib import rcParams
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from vared_mm.fonts import fonts, letters_of
from vared_mm.printing import escape, visible


def spell_out(figure: Figure) -> None:
    """Texts get the fonts that have their letters; letters that no font has become escapes."""
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    for axis in axes:
        # Labels are texts once they are asked for.
        axis.get_ticklabels()
    texts = figure.findobj(Text)
    letters = set("".join(text.get_text() for text in texts)) - {"\n"}
    found = {c: family_with(c) if visible(c) == c else None for c in letters}
    escapes = {ord(c): escape(c) for c, family in found.items() if family is None}
    # Where the first lacks a letter, matplotlib takes that of the next.
    families = list(dict.fromkeys([*rcParams["font.family"], *filter(None, found.values())]))
    for text in texts:
        text.set(text=text.get_text().translate(escapes), fontfamily=families)
    for axis in axes:
        translate_labels(axis, escapes)


def translate_labels(axis: Axis, letters: dict[int, str]) -> None:
    """Those that were given one by one, which are written anew whenever they are drawn."""
    if isinstance(label := axis.get_major_formatter(), FuncFormatter):
        axis.set_major_formatter(lambda x, i: label(x).translate(letters))


@cache
def family_with(letter: str) -> str | None:
    file = next((file for file in fonts() if letter in letters_of(file)), None)
    return file and FT2Font(file).family_name
