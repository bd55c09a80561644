"""A small segmentation data set: textured shapes, some hiding others, on textured ground.

A class is a shape, the pattern it is filled with, and roughly a colour; sizes, places and turns
are drawn without regard to it. Some pictures hold one shape, others many, so that they differ in
how much there is to tell apart. H = W = size pixels; labels are indices of `CLASSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from vared_mm.datasets.motion_clips import draw_texture
from vared_mm.datasets.once import make_once, write_image

# Inside of each shape and its pattern, from x and y on [-1, 1]², upright. A pattern is what of two
# colours a pixel has, drawn with `waves` repeats from side to side.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: x**2 + y**2 < 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.8,
    "triangle": lambda x, y: (y < 0.6) & (y > 2 * abs(x) - 1),
    "ring": lambda x, y: (x**2 + y**2 < 1) & (x**2 + y**2 > 0.3),
}
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "disc": lambda x, y, waves: np.sin(np.pi * waves * x) > 0,
    "square": lambda x, y, waves: np.sin(np.pi * waves * x) * np.sin(np.pi * waves * y) > 0,
    "triangle": lambda x, y, waves: np.cos(np.pi * waves * x) + np.cos(np.pi * waves * y) > 1,
    "ring": lambda x, y, waves: np.zeros_like(x, bool),
}
# The lighter of a pattern's two colours, which is drawn around it.
COLOURS = {
    "disc": (235, 95, 80),
    "square": (80, 140, 235),
    "triangle": (90, 200, 95),
    "ring": (235, 200, 70),
}
CLASSES = ("ground", *SHAPES)


@dataclass(frozen=True)
class ScenesConfig:
    """What identifies a data set: the same values give the same pictures.

    Args:
        train, val: pictures to train on, and held-out ones.
        size: side of the square pictures in pixels.
        most: shapes in the fullest picture; each holds at least one.
    """

    train: int = 400
    val: int = 100
    size: int = 96
    most: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("train", 1), ("val", 1), ("size", 32), ("most", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least {least}")


def draw_shape(rng: Generator, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A shape somewhere in the picture: its mask (size, size), and its colours (size, size, 3)."""
    place = rng.uniform(0.1, 0.9, 2) * size
    radius, turn = size * rng.uniform(0.14, 0.3), rng.uniform(-np.pi, np.pi)
    down, right = np.mgrid[:size, :size].astype(np.float32)
    dx, dy = (right - place[0]) / radius, (down - place[1]) / radius
    x, y = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    dark, light = rng.uniform(0, 90, 3), COLOURS[name] + rng.uniform(-60, 60, 3)
    pattern = PATTERNS[name](x, y, radius / 3)[..., None]
    return SHAPES[name](x, y), np.where(pattern, dark, light)


def draw_scene(
    seed: int | list[int], size: int = 96, most: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """One picture: RGB uint8 (size, size, 3) and labels uint8 (size, size)."""
    rng = default_rng(seed)
    image = draw_texture(rng, size, rng.uniform(80, 170), contrast=60).astype(np.float64)
    labels = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, most + 1)):
        label = int(rng.integers(1, len(CLASSES)))
        mask, colours = draw_shape(rng, CLASSES[label], size)
        image[mask], labels[mask] = colours[mask], label
    image += rng.normal(0, rng.uniform(2, 10), image.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def make_scenes(out: str | Path, config: ScenesConfig | None = None) -> Path:
    """Write the data set to the folder `out`, unless it is there already.

    `train/` and `val/` hold pictures (`.jpg`) with their labels (`.png`) side by side, as
    MMSegmentation's `BaseSegDataset` takes them; `scenes.json` the config. The folder appears under
    its name only when complete.

    Raises:
        FileExistsError: if `out` holds something else, or the set of another config.
    """
    config = config or ScenesConfig()
    return make_once(Path(out), "scenes", asdict(config), lambda folder: write_set(folder, config))


def write_set(folder: Path, config: ScenesConfig) -> None:
    for part, split in enumerate(("train", "val")):
        (folder / split).mkdir(parents=True)
        for index in range(getattr(config, split)):
            image, labels = draw_scene([config.seed, part, index], config.size, config.most)
            stem = folder / split / f"{index:04d}"
            write_image(stem.with_suffix(".jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            write_image(stem.with_suffix(".png"), labels)
