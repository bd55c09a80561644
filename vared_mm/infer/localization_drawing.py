"""Draws boxes with their labels into a frame, and a note at its foot."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vared_mm.infer.canvas import Colour, paper, put_text

LINE = 16
LEAST_SIDE = 320


def draw_boxes(
    frame: np.ndarray, boxes: Sequence[tuple[int, str, np.ndarray]], note: str
) -> np.ndarray:
    """A BGR frame (H, W, 3) on a canvas with a line for the note below.

    Height and width are even, as video codecs ask; a small frame is drawn at a multiple of its
    size, so that labels can be read.

    Args:
        boxes: the number of the class, which chooses the colour, the text, and x1 y1 x2 y2.
    """
    scale = max(1, round(LEAST_SIDE / max(frame.shape[:2])))
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    height, width = large.shape[:2]
    canvas = paper(height + LINE + 2, width)
    canvas[:height, :width] = large
    for label, text, box in boxes:
        x1, y1, x2, y2 = (round(float(value) * scale) for value in box)
        colour = colour_of(label)
        cv2.rectangle(canvas, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), colour, 2)
        put_text(canvas, text, (x1 + 2, max(y1 - 4, LINE - 4)), colour)
    put_text(canvas, note, (2, height + LINE - 4))
    return canvas


def colour_of(label: int) -> Colour:
    """Neighbouring labels have hues far apart: each goes on by the golden angle."""
    hue = np.array([[[label * 137.508 / 2 % 180, 200, 230]]], np.uint8)
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)
