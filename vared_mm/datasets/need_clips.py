"""A small data set of real video files that do not all need the same of a network.

In the half `motion` an object moves left, right, up or down over a ground of fine stripes, and the
class is its direction: frames in order decide. In the half `texture` it stands still and the class
is the direction of the stripes: one frame decides, if it is seen finely. How hard a clip is, its
difficulty in [0, 1], is drawn without regard to the class: the less the object moves, or the
fainter the stripes are.

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
# Degrees that stripes are turned by, against those that run upright.
TURNS = {"stripes_0": 0, "stripes_45": 45, "stripes_90": 90, "stripes_135": 135}
CLASSES = (*MOVES, *TURNS)
HALVES = ("motion", "texture")
# From the easiest to the hardest clip: how far the object moves, in sides of the frame, and how far
# the brightness of the stripes goes up and down, of 255.
EXTENT = (0.5, 0.08)
CONTRAST = (50.0, 5.0)
# Of the stripes, in sides of the frame.
WAVELENGTH = (0.2, 0.3)


@dataclass(frozen=True)
class NeedClipsConfig(MotionClipsConfig):
    """As of the motion clips, for eight classes."""

    clips_per_class: int = 150
    val_clips_per_class: int = 60
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
    half = HALVES[name in TURNS]
    # All that the class does not decide is drawn alike in both halves.
    difficulty, either = rng.random(2)
    hard = {half: difficulty, HALVES[half == "motion"]: either}
    turn = TURNS.get(name, list(TURNS.values())[rng.integers(len(TURNS))])
    x, y = rng.uniform(0.35, 0.65, 2) * size
    radius = size * rng.uniform(0.22, 0.34)
    middle = np.array([x, y, np.log(radius), 0.0])
    scene = random_scene(rng, size, striped=0)
    scene.background[:] += stripes(rng, size, turn, between(CONTRAST, hard["texture"]))
    extent = between(EXTENT, hard["motion"]) * size if half == "motion" else 0.0
    noise = rng.normal(0, rng.uniform(3, 6), (frames, size, size, 3)).astype(np.float32)
    poses = trajectory(name if half == "motion" else "still", middle, extent, frames)
    drawn = np.stack([draw_frame(scene, pose)[0] for pose in poses]) + noise
    return NeedClip(drawn.clip(0, 255).astype(np.uint8), half, float(difficulty))


def between(ends: tuple[float, float], difficulty: float) -> float:
    """From the easy end to the hard one, by equal factors."""
    easy, hard = ends
    return float(easy * (hard / easy) ** difficulty)


def stripes(rng: Generator, size: int, turn: float, contrast: float) -> np.ndarray:
    """(size, size, 1), up to `contrast` above and below zero."""
    y, x = np.mgrid[:size, :size] / size
    angle = np.deg2rad(turn)
    waves = 1 / rng.uniform(*WAVELENGTH)
    phase = waves * (x * np.cos(angle) + y * np.sin(angle)) + rng.random()
    return (contrast * np.sin(2 * np.pi * phase)[..., None]).astype(np.float32)


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
