"""Draws boxes with their labels into a frame, and a note at its foot."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vared_mm.infer.canvas import LINE, Colour, put_text, with_lines


def draw_boxes(
    frame: np.ndarray, boxes: Sequence[tuple[int, str, np.ndarray]], note: str
) -> np.ndarray:
    """A BGR frame (H, W, 3) on a canvas with a line for the note below.

    Args:
        boxes: the number of the class, which chooses the colour, the text, and x1 y1 x2 y2.
    """
    canvas, scale = with_lines(frame, [note])
    height, width = (scale * side for side in frame.shape[:2])
    for label, text, box in boxes:
        x1, y1, x2, y2 = (round(float(value) * scale) for value in box)
        colour = colour_of(label)
        cv2.rectangle(canvas, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), colour, 2)
        put_text(canvas, text, (x1 + 2, max(y1 - 4, LINE - 4)), colour)
    return canvas


def colour_of(label: int) -> Colour:
    """Neighbouring labels have hues far apart: each goes on by the golden angle."""
    hue = np.array([[[label * 137.508 / 2 % 180, 200, 230]]], np.uint8)
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)
