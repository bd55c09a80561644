"""Draws a segmentation over its picture, with a legend beside it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vared_mm.infer.canvas import paper, write

LINE, LEGEND_WIDTH = 18, 220


@dataclass(frozen=True)
class Legend:
    """Names of the classes and their colours, (classes, 3) uint8 in RGB."""

    classes: tuple[str, ...]
    palette: np.ndarray


def shares(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,): which part of the pixels each class has."""
    return np.bincount(labels.ravel(), minlength=classes) / labels.size


def draw_overlay(image: np.ndarray, labels: np.ndarray, legend: Legend, note: str) -> np.ndarray:
    """A BGR picture (H, W, 3) mixed with its labels' colours, and the legend on its right.

    The legend names the most frequent classes first, as many as there is room for, and ends with
    `note`. Height and width are even, as video codecs ask.
    """
    height, width = labels.shape
    canvas = paper(max(height, 12 * LINE), width + LEGEND_WIDTH)
    colours = legend.palette[labels][..., ::-1]
    canvas[:height, :width] = cv2.addWeighted(image, 0.5, np.ascontiguousarray(colours), 0.5, 0)

    part = shares(labels, len(legend.classes))
    room = len(canvas) // LINE - 2
    left = width + 8
    for row, label in enumerate(np.argsort(-part, kind="stable")[:room]):
        if part[label] == 0:
            break
        y = LINE * (row + 1)
        box = (left, y - 11, 14, 14)
        cv2.rectangle(canvas, box, tuple(map(int, legend.palette[label][::-1])), -1)
        write(canvas, f"{100 * part[label]:4.1f}% {legend.classes[label]}", (left + 20, y))
    write(canvas, note, (left, len(canvas) - 6))
    return canvas
