"""Paper, text, and the cost as text: what the drawings of all tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vared_mm.engine.cost_metric import SampleCost, summarise
from vared_mm.fonts import USUAL_FONT, fonts, letters_of
from vared_mm.printing import escape, visible

SIZE = 12
LINE = 16
LEAST_SIDE = 320
PAPER, INK = (255, 255, 255), (40, 40, 40)

Colour = tuple[int, int, int]
"""Blue, green, red."""


def paper(height: int, width: int) -> np.ndarray:
    """White, (height, width, 3), each a pixel more where it is odd: video codecs ask for even."""
    return np.full((height + height % 2, width + width % 2, 3), PAPER, np.uint8)


def with_lines(frame: np.ndarray, lines: Sequence[str]) -> tuple[np.ndarray, int]:
    """A BGR frame (H, W, 3) on a canvas with these lines below, and by what it was multiplied: a
    small frame is shown at a multiple of its size, so that text on it can be read."""
    scale = max(1, round(LEAST_SIDE / max(frame.shape[:2])))
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    height, width = large.shape[:2]
    canvas = paper(height + LINE * len(lines) + 2, width)
    canvas[:height, :width] = large
    for number, line in enumerate(lines, 1):
        put_text(canvas, line, (2, height + LINE * number - 4))
    return canvas, scale


def put_text(canvas: np.ndarray, text: str, place: tuple[int, int], colour: Colour = INK) -> None:
    """`place` is the left end of the line that the letters stand on."""
    text, font = lettering(text)
    x, y = place
    top = max(y - 2 * SIZE, 0)
    strip = canvas[top : y + SIZE]
    picture = Image.fromarray(strip)
    ImageDraw.Draw(picture).text((x, y - top), text, colour, font, anchor="ls")
    strip[:] = picture


def width_of(text: str) -> int:
    text, font = lettering(text)
    return round(font.getlength(text))


@lru_cache(maxsize=4096)
def lettering(text: str) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text and a font that has all its letters, or the letters that none has as escapes, by
    which names still differ."""
    text = visible(text)
    for file in fonts():
        if set(text) <= letters_of(file):
            return text, font_in(file)
    known = letters_of(str(USUAL_FONT))
    return "".join(c if c in known else escape(c) for c in text), font_in(str(USUAL_FONT))


@cache
def font_in(file: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, SIZE)


def note(cost: SampleCost) -> str:
    one = summarise([cost])
    return f"{one['full_gmacs']['avg']:.3g} of {one['dense_gmacs']:.3g} GMACs"
