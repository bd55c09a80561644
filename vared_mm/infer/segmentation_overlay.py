"""Draws a segmentation over its picture, with a legend beside it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vared_mm.infer.canvas import paper, put_text, width_of

# LEGEND_WIDTH is the least; longer names get more.
LINE, LEGEND_WIDTH = 18, 220


@dataclass(frozen=True)
class Legend:
    """Names of the classes and their colours, (classes, 3) uint8 in RGB."""

    classes: tuple[str, ...]
    palette: np.ndarray


def class_shares(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,): which part of the pixels each class has."""
    return np.bincount(labels.ravel(), minlength=classes) / labels.size


def legend_width(legend: Legend) -> int:
    longest = max(width_of(f"100.0% {name}") for name in legend.classes)
    return max(LEGEND_WIDTH, longest + 36)


def in_colour(image: np.ndarray) -> np.ndarray:
    """BGR uint8 (H, W, 3) of any channels: the first three, or the first as grey."""
    image = image.reshape(*image.shape[:2], -1)
    if image.dtype != np.uint8:
        image = (image * (255 / max(255, image.max()))).clip(0, 255).astype(np.uint8)
    return image[..., :3] if image.shape[2] > 2 else image[..., [0, 0, 0]]


def draw_overlay(image: np.ndarray, labels: np.ndarray, legend: Legend, note: str) -> np.ndarray:
    """A picture (H, W) or (H, W, C) mixed with its labels' colours, and the legend on its right.

    The legend names the most frequent classes first, as many as there is room for, and ends with
    `note`. Height and width are even, as video codecs ask.
    """
    height, width = labels.shape
    canvas = paper(max(height, 12 * LINE), width + legend_width(legend))
    colours = np.ascontiguousarray(legend.palette[labels][..., ::-1])
    canvas[:height, :width] = cv2.addWeighted(in_colour(image), 0.5, colours, 0.5, 0)

    part = class_shares(labels, len(legend.classes))
    room = len(canvas) // LINE - 2
    left = width + 8
    for row, label in enumerate(np.argsort(-part, kind="stable")[:room]):
        if part[label] == 0:
            break
        y = LINE * (row + 1)
        box = (left, y - 11, 14, 14)
        cv2.rectangle(canvas, box, tuple(map(int, legend.palette[label][::-1])), -1)
        put_text(canvas, f"{100 * part[label]:4.1f}% {legend.classes[label]}", (left + 20, y))
    put_text(canvas, note, (left, len(canvas) - 6))
    return canvas
