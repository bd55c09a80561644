"""Action tubes: boxes of one actor in successive frames, linked from the boxes of each frame.

T frames, K boxes of the frame with most, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vared_mm.method.config import is_whole, is_within
from vared_mm.metrics.average_precision import box_iou


@dataclass(frozen=True)
class Tube:
    """Args:
    frames: (n,) increasing frame numbers.
    boxes: (n, 4) x1 y1 x2 y2.
    score: mean of the boxes' scores; frames that were filled in count as 0.
    """

    frames: np.ndarray
    boxes: np.ndarray
    score: float = 1.0


@dataclass(frozen=True)
class LinkConfig:
    """How boxes become tubes.

    Args:
        tubes: at most so many of each class in a video.
        min_score: boxes of a class take part above this score.
        max_gap: a tube ends where more than so many successive frames have no box for it. None
            stretches each tube over the whole video, as suits videos that are cut to the action.
    """

    tubes: int = 3
    min_score: float = 0.0
    max_gap: int | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.tubes, 1):
            raise ValueError(f"tubes is {self.tubes!r}; wanted a whole number from 1 up")
        if not is_within(self.min_score, 0, 1) or self.min_score == 1:
            raise ValueError(f"min_score is {self.min_score!r}; wanted a number from 0 to below 1")
        if self.max_gap is not None and not is_whole(self.max_gap, 0):
            raise ValueError(f"max_gap is {self.max_gap!r}; wanted 0 or more frames, or None")


def link(
    frames: Sequence[int],
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    config: LinkConfig | None = None,
) -> list[list[Tube]]:
    """For each of C classes its tubes, the one linked first in front.

    A tube takes at most one box of each frame. It is the sequence with the greatest sum, over each
    two successive boxes, of both scores and the IoU (Gkioxari & Malik, "Finding action tubes",
    2015); the next one is made of the boxes that are left.

    Args:
        frames: T increasing numbers.
        boxes: of each frame (k, 4).
        scores: and of each of its boxes the scores of all classes (k, C).
    """
    config = config or LinkConfig()
    numbers = np.asarray(frames)
    places, worth = padded(boxes, scores, config.min_score)
    found: list[list[Tube]] = [[] for _ in worth]
    overlap = box_iou(places[:-1, :, None], places[1:, None])
    # The last place of a frame is the empty one, which is worth nothing and overlaps nothing.
    missing = places.shape[1] - 1
    overlap[:, missing] = overlap[:, :, missing] = 0
    for _ in range(config.tubes):
        path = best_paths(worth, overlap)
        real = path < missing
        for c in np.flatnonzero(real.any(axis=1)):
            seen = np.flatnonzero(real[c])
            chosen = path[c, seen]
            gains = worth[c, seen, chosen]
            found[c] += filled(numbers, seen, places[seen, chosen], gains, config.max_gap)
            worth[c, seen, chosen] = -np.inf
    return found


def padded(
    boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (T, K+1, 4) and what they are worth (C, T, K+1): -inf where there is none."""
    classes = scores[0].shape[1] if len(scores) else 0
    most = max((len(b) for b in boxes), default=0)
    places = np.zeros((len(boxes), most + 1, 4))
    worth = np.full((classes, len(boxes), most + 1), -np.inf)
    worth[:, :, most] = 0
    for t, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        places[t, : len(box)] = box
        worth[:, t, : len(box)] = np.where(score > min_score, score, -np.inf).T
    return places, worth


def best_paths(worth: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """The places (C, T) of each class's best path, by dynamic programming from the last frame.

    Args:
        worth: (C, T, P) of P places in each frame.
        overlap: (T-1, P, P) between the places of successive frames.
    """
    classes, length, places = worth.shape
    if not length:
        return np.zeros((classes, 0), dtype=int)
    following = np.zeros((length - 1, classes, places), dtype=int)
    value = worth[:, -1] if length == 1 else np.zeros((classes, places))
    for t in range(length - 2, -1, -1):
        onward = overlap[t] + (worth[:, t + 1] + value)[:, None, :]
        following[t] = onward.argmax(axis=2)
        value = worth[:, t] + onward.max(axis=2)
    path = np.zeros((classes, length), dtype=int)
    path[:, 0] = value.argmax(axis=1)
    for t in range(length - 1):
        path[:, t + 1] = following[t][np.arange(classes), path[:, t]]
    return path


def filled(
    numbers: np.ndarray,
    seen: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    max_gap: int | None,
) -> list[Tube]:
    """Tubes of boxes (n, 4) at the places `seen` (n,) of the frames `numbers` (T,).

    Gaps are filled in along straight lines, the ends of a stretched tube by its first and last box.
    """
    cuts = np.flatnonzero(np.diff(seen) > (np.inf if max_gap is None else max_gap + 1)) + 1
    tubes = []
    for part in np.split(np.arange(len(seen)), cuts):
        whole = 0, len(numbers) - 1
        first, last = whole if max_gap is None else (seen[part[0]], seen[part[-1]])
        frames = numbers[first : last + 1]
        here = boxes[part]
        if len(here) < len(frames):
            here = np.stack([np.interp(frames, numbers[seen[part]], x) for x in here.T], axis=1)
        tubes.append(Tube(frames, here, float(scores[part].sum() / len(frames))))
    return tubes


def tube_iou(one: Tube, other: Tube, pixel_ends: bool = False) -> float:
    """IoU of the frames, times the mean IoU of the boxes in the frames of both."""
    shared, first, second = np.intersect1d(one.frames, other.frames, return_indices=True)
    if not len(shared):
        return 0.0
    frames = len(one.frames) + len(other.frames) - len(shared)
    boxes = box_iou(one.boxes[first], other.boxes[second], pixel_ends)
    return float(boxes.mean() * len(shared) / frames)
