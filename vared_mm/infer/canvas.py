"""Paper, text, and the cost as text: what the drawings of all tasks share."""

from __future__ import annotations

import cv2
import numpy as np

from vared_mm.engine.cost_metric import SampleCost, summarise

FONT = cv2.FONT_HERSHEY_SIMPLEX
PAPER, INK = (255, 255, 255), (40, 40, 40)

Colour = tuple[int, int, int]
"""Blue, green, red."""


def paper(height: int, width: int) -> np.ndarray:
    """White, (height, width, 3), each a pixel more where it is odd: video codecs ask for even."""
    return np.full((height + height % 2, width + width % 2, 3), PAPER, np.uint8)


def write(canvas: np.ndarray, text: str, place: tuple[int, int], colour: Colour = INK) -> None:
    cv2.putText(canvas, text, place, FONT, 0.42, colour, 1, cv2.LINE_AA)


def note(cost: SampleCost) -> str:
    one = summarise([cost])
    return f"{one['full_gmacs']['avg']:.3g} of {one['dense_gmacs']:.3g} GMACs"
