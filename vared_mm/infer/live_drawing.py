"""Draws into a frame what was last said of it: label, share bar, GMACs and milliseconds."""

from __future__ import annotations

import cv2
import numpy as np

from vared_mm.infer.canvas import INK, LINE, Colour, note, with_lines
from vared_mm.infer.sliding import Answer

OPEN: Colour = (80, 160, 40)
REST: Colour = (225, 225, 225)


def draw_answer(frame: np.ndarray, answer: Answer | None, names: list[str]) -> np.ndarray:
    """A BGR frame (H, W, 3) on a canvas with lines below; before the first answer it says so.

    The bar is filled as far as the share of their MACs that the dynamic convolutions computed.
    """
    if answer is None:
        return with_lines(frame, ["waiting for a whole clip", "", ""])[0]
    filled = share_of(answer)
    told = "static" if filled is None else f"share {100 * filled:.0f} %"
    costs = f"{told}   {note(answer.cost)}   {answer.milliseconds:.1f} ms"
    lines = [f"{name_of(answer, names)}  {100 * answer.score:.0f} %", costs, ""]
    canvas, scale = with_lines(frame, lines)
    if filled is None:
        return canvas
    top = scale * frame.shape[0] + 2 * LINE + 4
    right = scale * frame.shape[1] - 3
    cv2.rectangle(canvas, (2, top), (right, top + LINE - 6), REST, -1)
    cv2.rectangle(canvas, (2, top), (2 + round(filled * (right - 2)), top + LINE - 6), OPEN, -1)
    cv2.rectangle(canvas, (2, top), (right, top + LINE - 6), INK, 1)
    return canvas


def share_of(answer: Answer) -> float | None:
    """None of a static model."""
    dense = float(answer.cost.dense.sum())
    return float(answer.cost.paper.sum()) / dense if dense else None


def name_of(answer: Answer, names: list[str]) -> str:
    return names[answer.label] if answer.label < len(names) else f"class {answer.label}"
