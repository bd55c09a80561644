"""The fonts whose letters drawings and plots can show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

USUAL_FONT = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def fonts() -> Iterator[str]:
    """Files of those installed, the usual one first."""
    yield str(USUAL_FONT)
    # It may look through the whole system, which most texts do not need.
    from matplotlib.font_manager import fontManager

    installed = sorted({font.fname for font in fontManager.ttflist})
    # LastResort draws the same box for all letters of a script.
    yield from (file for file in installed if "LastResort" not in file)


@cache
def letters_of(file: str) -> frozenset[str]:
    """None of what has one size alone, as pictures of emoji, or is gone since matplotlib looked."""
    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
