"""A small data set of real video files that do not all need the same of a network.

In the half `motion` an object of any shape moves left, right, up or down, and the class is its
direction: frames in order decide. In the half `shape` it stands still and the class is its shape:
one frame decides, if it is seen finely. How hard a clip is, its difficulty in [0, 1], is drawn
without regard to the class: the less the object moves, or the smaller it is.

needs.csv tells of every clip its half and its difficulty. T frames of H = W = size pixels.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from vared_mm.datasets.motion_clips import (
    MotionClipsConfig,
    draw_frame,
    random_scene,
    trajectory,
    write_clip_set,
)
from vared_mm.datasets.once import make_once

MOVES = ("move_left", "move_right", "move_up", "move_down")
# Corners; a star's inner ones lie at 0.45 of its radius.
SHAPES = {"disc": 48, "triangle": 3, "square": 4, "star": 10}
CLASSES = (*MOVES, *SHAPES)
HALVES = ("motion", "shape")
# From the easiest to the hardest clip: how far the object moves, and its radius, in sides of the
# frame.
EXTENT = (0.5, 0.08)
RADIUS = (0.34, 0.12)


@dataclass(frozen=True)
class NeedClipsConfig(MotionClipsConfig):
    """As of the motion clips, for eight classes."""

    clips_per_class: int = 300
    val_clips_per_class: int = 100
    frames: int = 16
    size: int = 64


class NeedClip(NamedTuple):
    """RGB frames uint8 (T, H, W, 3), the half they are of, and their difficulty in [0, 1]."""

    frames: np.ndarray
    half: str
    difficulty: float


def render_need_clip(
    name: str, seed: int | list[int], frames: int = 16, size: int = 64
) -> NeedClip:
    """One clip of a class.

    Raises:
        ValueError: for a class that is not in `CLASSES`.
    """
    if name not in CLASSES:
        raise ValueError(f"name={name!r} is none of {', '.join(CLASSES)}")
    rng = default_rng(seed)
    half = HALVES[name in SHAPES]
    # All that the class does not decide is drawn alike in both halves.
    difficulty, either = rng.random(2)
    hard = {half: difficulty, HALVES[half == "motion"]: either}
    shape = name if name in SHAPES else list(SHAPES)[rng.integers(len(SHAPES))]
    x, y = rng.uniform(0.35, 0.65, 2) * size
    middle = np.array([x, y, np.log(between(RADIUS, hard["shape"]) * size), 0.0])
    scene = random_scene(rng, size, outline_of(rng, shape), striped=0)
    extent = between(EXTENT, hard["motion"]) * size if half == "motion" else 0.0
    noise = rng.normal(0, rng.uniform(3, 6), (frames, size, size, 3)).astype(np.float32)
    poses = trajectory(name if half == "motion" else "still", middle, extent, frames)
    drawn = np.stack([draw_frame(scene, pose)[0] for pose in poses]) + noise
    return NeedClip(drawn.clip(0, 255).astype(np.uint8), half, float(difficulty))


def between(ends: tuple[float, float], difficulty: float) -> float:
    """From the easy end to the hard one, by equal factors."""
    easy, hard = ends
    return float(easy * (hard / easy) ** difficulty)


def outline_of(rng: Generator, shape: str) -> np.ndarray:
    """Rim of a shape, turned at random and not quite as wide as high, (P, 2) within [-1, 1]."""
    corners = SHAPES[shape]
    angles = 2 * np.pi * np.arange(corners) / corners + rng.uniform(0, 2 * np.pi)
    radii = np.ones(corners)
    if shape == "star":
        radii[1::2] = 0.45
    width = rng.uniform(0.8, 1.0)
    return np.stack([radii * np.cos(angles), width * radii * np.sin(angles)], axis=1)


def make_need_clips(out: str | Path, config: NeedClipsConfig | None = None) -> Path:
    """Write the data set to the folder `out`, unless it is there already.

    Beside the videos stand `train.txt` and `val.txt` (lines `relative/path label`, MMAction2's
    `VideoDataset`), `classes.txt`, `needs.csv` (file, label, half, difficulty), and
    `need_clips.json` with the config. The folder appears under its name only when complete.

    Raises:
        FileExistsError: if `out` holds something else, or the set of another config.
    """
    config = config or NeedClipsConfig()
    return make_once(
        Path(out), "need clips", asdict(config), lambda folder: _write_clip_set(folder, config)
    )


def _write_clip_set(folder: Path, config: NeedClipsConfig) -> None:
    needs: list[tuple[str, int, str, float]] = []

    def render(file: str, name: str, seed: list[int]) -> np.ndarray:
        clip = render_need_clip(name, seed, config.frames, config.size)
        needs.append((file, CLASSES.index(name), clip.half, round(clip.difficulty, 4)))
        return clip.frames

    write_clip_set(folder, CLASSES, config, render)
    with (folder / "needs.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([("file", "label", "half", "difficulty"), *sorted(needs)])
