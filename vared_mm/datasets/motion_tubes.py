"""A small data set of action tubes, laid out as J-HMDB is: frames, and a pickle of boxes.

The videos are those of `motion_clips.py`: one object that moves, turns, grows, shrinks or stands
still, whose class only motion tells. Its box in each frame makes the tube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from vared_mm.datasets.motion_clips import CLASSES, render_clip
from vared_mm.datasets.once import make_once, write_image
from vared_mm.datasets.tube_annotations import TubeAnnotations, write_tubes
from vared_mm.screen import tracked

ANNOTATIONS = "JHMDB-GT.pkl"
FRAMES = "Frames"


@dataclass(frozen=True)
class MotionTubesConfig:
    """What identifies a data set: the same values give the same frames.

    Args:
        classes: some of `motion_clips.CLASSES`.
        clips_per_class: videos to train on, of each class.
        test_clips_per_class: held-out videos, with other shapes and textures; 0 tests on the
            training videos, to see whether a network can fit them.
        frames: of every video.
        size: side of the square frames in pixels.
    """

    classes: Sequence[str] = CLASSES
    clips_per_class: int = 20
    test_clips_per_class: int = 8
    frames: int = 24
    size: int = 112
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"classes={self.classes} are not some of {', '.join(CLASSES)}, each once"
            )
        least = dict(clips_per_class=1, test_clips_per_class=0, frames=2, size=32, seed=0)
        for name, least_value in least.items():
            if getattr(self, name) < least_value:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least {least_value}")


def make_motion_tubes(out: str | Path, config: MotionTubesConfig | None = None) -> Path:
    """Writes the data set to the folder `out`, unless it is there already.

    The folder appears under its name only when complete.

    Raises:
        FileExistsError: if `out` holds something else, or the set of another config.
    """
    chosen = config or MotionTubesConfig()
    settings = {**asdict(chosen), "classes": list(chosen.classes)}
    return make_once(Path(out), "motion tubes", settings, lambda folder: _write_set(folder, chosen))


def _write_set(folder: Path, config: MotionTubesConfig) -> None:
    counts = (config.clips_per_class, config.test_clips_per_class)
    tasks = [
        (part, label, index)
        for part, count in enumerate(counts)
        for label in range(len(config.classes))
        for index in range(count)
    ]
    tubes: dict[str, dict[int, list[np.ndarray]]] = {}
    videos: tuple[list[str], list[str]] = ([], [])
    for part, label, index in tracked(tasks, len(tasks), "writing videos"):
        motion = config.classes[label]
        video = f"{motion}/{('train', 'test')[part]}_{index:03d}"
        clip, boxes = render_clip(
            motion, [config.seed, part, label, index], config.frames, config.size
        )
        write_frames(folder / FRAMES / video, clip)
        numbers = np.arange(1, len(clip) + 1)[:, None]
        tubes[video] = {label: [np.hstack([numbers, boxes]).astype(np.float32)]}
        videos[part].append(video)
    train, test = videos
    annotations = TubeAnnotations(
        labels=list(config.classes),
        gttubes=tubes,
        nframes=dict.fromkeys(tubes, config.frames),
        train_videos=[train],
        test_videos=[test or train],
        resolution=dict.fromkeys(tubes, (config.size, config.size)),
    )
    write_tubes(folder / ANNOTATIONS, annotations)


def write_frames(folder: Path, clip: np.ndarray) -> None:
    """RGB frames (T, H, W, 3) as 00001.png, 00002.png, ..."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip, 1):
        write_image(folder / f"{number:05d}.png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
