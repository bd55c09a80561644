"""A small data set of real video files whose classes can only be told from motion.

One textured object on a textured background moves, turns, grows, shrinks or stands still. The
look and the pose at the middle of the clip are drawn without regard to the class, and of two
opposite classes each is the other played backward. So the middle frame says nothing about the
class, and the frames in unknown order say nothing about the direction. T frames of H = W = size
pixels; boxes are x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from vared_mm.datasets.mp4 import video_writer
from vared_mm.datasets.once import make_once
from vared_mm.datasets.video_faults import MISREAD_WIDTHS
from vared_mm.screen import tracked

# Class -> which component of the pose changes, and in which direction of time.
# y points down, so a growing angle turns clockwise.
MOTIONS: dict[str, tuple[str, int]] = {
    "move_left": ("x", -1),
    "move_right": ("x", 1),
    "move_up": ("y", -1),
    "move_down": ("y", 1),
    "rotate_counterclockwise": ("angle", -1),
    "rotate_clockwise": ("angle", 1),
    "shrink": ("log_radius", -1),
    "grow": ("log_radius", 1),
    "still": ("x", 0),
}
CLASSES = tuple(MOTIONS)

POSE = ("x", "y", "log_radius", "angle")
# Change of a component over the whole clip, drawn uniformly: x and y as shares of the frame's
# side, the angle in radians, the radius as the logarithm of a factor (1.8 to 3).
EXTENT = {"x": (0.3, 0.6), "y": (0.3, 0.6), "angle": (2.4, 4.2), "log_radius": (0.6, 1.1)}

PATCH = 96
FPS = 12


@dataclass(frozen=True)
class MotionClipsConfig:
    """What identifies a data set: the same values give the same frames.

    Args:
        clips_per_class: clips to train on, for each of the nine classes.
        val_clips_per_class: held-out clips, with other shapes and textures.
        frames: T of every clip.
        size: side of the square frames in pixels. Even, as video codecs ask, and no width that
            decord misreads.
    """

    clips_per_class: int = 40
    val_clips_per_class: int = 15
    frames: int = 24
    size: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("clips_per_class", 1), ("val_clips_per_class", 1), ("frames", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least {least}")
        if self.size < 32 or self.size % 2:
            raise ValueError(f"size={self.size} has to be an even number of pixels from 32 on")
        if self.size in MISREAD_WIDTHS:
            raise ValueError(f"size={self.size} is a width that decord misreads; take another")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} has to be 0 or more")


@dataclass(frozen=True)
class Scene:
    """What stays the same during a clip.

    Args:
        background: (size, size, 3) float32 in [0, 255].
        texture: (PATCH, PATCH, 3) float32, the object seen upright in [-1, 1]².
        mask: (PATCH, PATCH) float32 in [0, 1], 1 inside the object.
        outline: (P, 2) x and y of the object's rim in [-1, 1].
    """

    background: np.ndarray
    texture: np.ndarray
    mask: np.ndarray
    outline: np.ndarray


def draw_texture(
    rng: Generator, size: int, mean: float, contrast: float, striped: float = 0.4
) -> np.ndarray:
    """Two random colours mixed by smooth noise and, as far as `striped` says, by stripes,
    (size, size, 3) around `mean`."""
    cells = int(rng.integers(3, 9))
    noise = cv2.resize(rng.random((cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size] / size
    tilt, waves = rng.uniform(0, np.pi), rng.uniform(2, 6)
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(tilt) + y * np.sin(tilt))) > 0
    mix = (1 - striped) * noise + striped * stripes
    colours = mean + contrast * rng.uniform(-1, 1, (2, 3))
    return (mix[..., None] * colours[0] + (1 - mix[..., None]) * colours[1]).astype(np.float32)


def draw_outline(rng: Generator) -> np.ndarray:
    """Rim of a random polygon or blob, (P, 2) x and y within [-1, 1]."""
    if rng.random() < 0.5:
        corners = int(rng.integers(4, 9))
        angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        radii = rng.uniform(0.55, 1.0, corners)
    else:
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        oval, egg = rng.uniform(0.1, 0.2, 2)
        radii = 0.65 + oval * np.sin(2 * angles) + egg * np.sin(angles)
    # Longer than wide, so that the rim and not only the texture tells how it turns.
    width = rng.uniform(0.45, 0.75)
    return np.stack([radii * np.cos(angles), width * radii * np.sin(angles)], axis=1)


def random_scene(
    rng: Generator, size: int, outline: np.ndarray | None = None, striped: float = 0.4
) -> Scene:
    """A background and an object that differs from it in brightness, either way.

    Args:
        outline: Of the object, (P, 2) as in `Scene`; without it a random one.
        striped: How far the object is.
    """
    dark, light = rng.uniform(40, 100), rng.uniform(150, 215)
    ground, figure = (dark, light) if rng.random() < 0.5 else (light, dark)
    outline = draw_outline(rng) if outline is None else outline
    mask = np.zeros((PATCH, PATCH), np.uint8)
    cv2.fillPoly(mask, [np.round((outline + 1) / 2 * (PATCH - 1)).astype(np.int32)], 1)
    return Scene(
        background=draw_texture(rng, size, ground, 45).clip(0, 255),
        texture=draw_texture(rng, PATCH, figure, 70, striped).clip(0, 255),
        mask=mask.astype(np.float32),
        outline=outline,
    )


def pose_matrix(pose: np.ndarray) -> np.ndarray:
    """(2, 3) map from the object's own [-1, 1]² to pixels, for a pose as `POSE` names it."""
    x, y, log_radius, angle = pose
    cos, sin = np.exp(log_radius) * np.cos(angle), np.exp(log_radius) * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def draw_frame(scene: Scene, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scene with its object at `pose`: (size, size, 3) float32, and the box (4,).

    The box encloses what of the object is inside the frame.
    """
    size = scene.background.shape[0]
    matrix = pose_matrix(pose)
    from_patch = np.array([[2 / (PATCH - 1), 0, -1], [0, 2 / (PATCH - 1), -1], [0, 0, 1]])
    warp = matrix @ from_patch
    mask = cv2.warpAffine(scene.mask, warp, (size, size))[..., None]
    texture = cv2.warpAffine(scene.texture, warp, (size, size), borderMode=cv2.BORDER_REPLICATE)
    rim = scene.outline @ matrix[:, :2].T + matrix[:, 2]
    box = np.concatenate([rim.min(axis=0), rim.max(axis=0)]).clip(0, size)
    return scene.background * (1 - mask) + texture * mask, box


def trajectory(motion: str, middle: np.ndarray, extent: float, frames: int) -> np.ndarray:
    """Poses (T, 4) that pass `middle` half-way, changed by `extent` from first to last frame."""
    component, direction = MOTIONS[motion]
    poses = np.repeat(middle[None], frames, axis=0)
    poses[:, POSE.index(component)] += direction * extent * np.linspace(-0.5, 0.5, frames)
    return poses


def render_clip(
    motion: str, seed: int | list[int], frames: int = 24, size: int = 80
) -> tuple[np.ndarray, np.ndarray]:
    """One clip: RGB frames uint8 (T, H, W, 3) and the object's boxes float64 (T, 4).

    Raises:
        ValueError: for a motion that is not in `CLASSES`.
    """
    if motion not in MOTIONS:
        raise ValueError(f"motion={motion!r} is none of {', '.join(CLASSES)}")
    rng = default_rng(seed)
    scene = random_scene(rng, size)
    x, y = rng.uniform(0.35, 0.65, 2) * size
    middle = np.array([x, y, np.log(size * rng.uniform(0.22, 0.34)), rng.uniform(-np.pi, np.pi)])
    component, direction = MOTIONS[motion]
    extent = rng.uniform(*EXTENT[component]) * (size if component in "xy" else 1)
    noise = rng.normal(0, rng.uniform(2, 8), (frames, size, size, 3)).astype(np.float32)
    if direction < 0:
        noise = noise[::-1]
    drawn = [draw_frame(scene, pose) for pose in trajectory(motion, middle, extent, frames)]
    clip = np.stack([frame for frame, _ in drawn]) + noise
    return clip.clip(0, 255).astype(np.uint8), np.stack([box for _, box in drawn])


def write_video(path: Path, clip: np.ndarray) -> None:
    """Encodes RGB frames uint8 (T, H, W, 3)."""
    with video_writer(path, FPS) as write:
        for frame in clip:
            write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def make_motion_clips(out: str | Path, config: MotionClipsConfig | None = None) -> Path:
    """Write the data set to the folder `out`, unless it is there already.

    Beside the videos stand `train.txt` and `val.txt` (lines `relative/path label`, MMAction2's
    `VideoDataset`), `classes.txt`, and `motion_clips.json` with the config. The folder appears
    under its name only when complete.

    Raises:
        FileExistsError: if `out` holds something else, or the set of another config.
    """
    config = config or MotionClipsConfig()
    return make_once(
        Path(out), "motion clips", asdict(config), lambda folder: _write_clip_set(folder, config)
    )


def _write_clip_set(folder: Path, config: MotionClipsConfig) -> None:
    def render(_: str, motion: str, seed: list[int]) -> np.ndarray:
        return render_clip(motion, seed, config.frames, config.size)[0]

    write_clip_set(folder, CLASSES, config, render)


def write_clip_set(
    folder: Path,
    classes: Sequence[str],
    config: MotionClipsConfig,
    render: Callable[[str, str, list[int]], np.ndarray],
) -> None:
    """Writes the videos and what lists them.

    Args:
        render: Frames uint8 (T, H, W, 3) from a file's name, its class and its seed.
    """
    counts = {"train": config.clips_per_class, "val": config.val_clips_per_class}
    clips: list[tuple[str, str, list[int]]] = []
    for part, (split, count) in enumerate(counts.items()):
        (folder / split).mkdir()
        lines = []
        for label, name in enumerate(classes):
            for index in range(count):
                file = f"{split}/{name}_{index:03d}.mp4"
                lines.append(f"{file} {label}\n")
                clips.append((file, name, [config.seed, part, label, index]))
        (folder / f"{split}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))

    def write(file: str, name: str, seed: list[int]) -> None:
        write_video(folder / file, render(file, name, seed))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(write, *clip) for clip in clips]
        try:
            for job in tracked(as_completed(jobs), len(jobs), "writing videos"):
                job.result()
        except BaseException:
            # Leaving the pool would wait for every clip that is still in line.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
