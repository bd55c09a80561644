"""Recall, Classif., frame-mAP and video-mAP of J-HMDB and of data sets like it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vared_mm.metrics.average_precision import average_precision, box_iou, right_ones
from vared_mm.metrics.tubes import LinkConfig, Tube, link, tube_iou

CONFIDENT = 0.25
OVERLAP = 0.5
# The thresholds whose mean is video-mAP@0.5:0.95.
RANGE = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True)
class FrameResult:
    """What is in a frame and what was found there; G true boxes, K found ones, C classes.

    Args:
        video: Its name.
        frame: Its number in the video.
        truth_boxes: (G, 4), x1 y1 x2 y2 in pixels.
        truth_labels: (G,) their classes.
        truth_tubes: (G,) the number, within the video, of the tube that each belongs to.
        boxes: (K, 4), as `truth_boxes`.
        confidence: (K,) the probability that there is an action.
        class_probs: (K, C) and of which class.
    """

    video: str
    frame: int
    truth_boxes: np.ndarray
    truth_labels: np.ndarray
    truth_tubes: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    class_probs: np.ndarray


def recall_and_classification(frames: Sequence[FrameResult]) -> tuple[float, float]:
    """Share of the true boxes whose best IoU with a confident box, of any class, is above 0.5; and
    share of these whose best box has the right class. Of nothing the share is 0."""
    found = right = total = 0
    for frame in frames:
        total += len(frame.truth_boxes)
        confident = frame.confidence > CONFIDENT
        if not confident.any():
            continue
        overlap = box_iou(frame.truth_boxes[:, None], frame.boxes[confident])
        labels = frame.class_probs[confident].argmax(axis=1)[overlap.argmax(axis=1)]
        hit = overlap.max(axis=1) > OVERLAP
        found += int(hit.sum())
        right += int((labels[hit] == frame.truth_labels[hit]).sum())
    return share(found, total), share(right, found)


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def frame_aps(frames: Sequence[FrameResult], classes: int, pixel_ends: bool = False) -> np.ndarray:
    """AP (C,) of single boxes at IoU 0.5; a box's class is its likeliest, its score the confidence
    times that probability. `pixel_ends` as in `box_iou`."""
    check_frames(frames, classes)
    totals = np.zeros(classes, dtype=int)
    rows: list[list[np.ndarray]] = [[] for _ in range(4)]
    for frame in frames:
        best = overlapped(frame, pixel_ends)
        # True boxes are numbered through, so that those of different frames are never the same.
        best[0][:] += totals.sum()
        for column, values in zip(rows, best, strict=True):
            column.append(values)
        totals += np.bincount(frame.truth_labels, minlength=classes)
    truth, overlap, labels, scores = (np.concatenate(c) if c else np.zeros(0) for c in rows)
    aps = []
    for c in range(classes):
        of = labels == c
        right = right_ones(scores[of], truth[of], overlap[of], OVERLAP)
        aps.append(average_precision(scores[of], right, int(totals[c])))
    return np.array(aps)


def check_frames(frames: Sequence[FrameResult], classes: int) -> None:
    """Raises `ValueError` for labels that are no class, and for a frame that came twice."""
    seen: set[tuple[str, int]] = set()
    for frame in frames:
        labels = frame.truth_labels
        if other := [int(label) for label in labels if not 0 <= label < classes]:
            raise ValueError(
                f"a true box of frame {frame.frame} of {frame.video} has the label {other[0]}; "
                f"wanted 0 to {classes - 1}, of {classes} classes"
            )
        if (frame.video, frame.frame) in seen:
            raise ValueError(
                f"frame {frame.frame} of {frame.video} came twice; wanted one result of each "
                "frame, with all of its boxes"
            )
        seen.add((frame.video, frame.frame))


def overlapped(frame: FrameResult, pixel_ends: bool = False) -> tuple[np.ndarray, ...]:
    """Of each box the true box of its class that it overlaps most, the IoU, its class and score."""
    labels = frame.class_probs.argmax(axis=1)
    scores = frame.confidence * frame.class_probs.max(axis=1, initial=0)
    if not len(frame.truth_boxes):
        return np.zeros(len(labels), dtype=int), np.zeros(len(labels)), labels, scores
    same = labels[:, None] == frame.truth_labels
    overlap = np.where(same, box_iou(frame.boxes[:, None], frame.truth_boxes, pixel_ends), 0)
    return overlap.argmax(axis=1), overlap.max(axis=1), labels, scores


def video_aps(
    frames: Sequence[FrameResult],
    classes: int,
    thresholds: Sequence[float],
    config: LinkConfig | None = None,
    pixel_ends: bool = False,
) -> np.ndarray:
    """AP (thresholds, C) of linked tubes, whose class scores are confidence times probability.

    `pixel_ends` is of their overlap with true tubes; boxes are linked by their plain IoU.
    """
    check_frames(frames, classes)
    totals = np.zeros(classes, dtype=int)
    rows: list[list[tuple[float, int, float]]] = [[] for _ in range(classes)]
    for video in by_video(frames):
        truths = true_tubes(video)
        linked = link(
            [f.frame for f in video],
            [f.boxes for f in video],
            [f.confidence[:, None] * f.class_probs for f in video],
            config,
        )
        for c, tubes in enumerate(linked):
            mine = truths.get(c, [])
            for tube in tubes:
                ious = [tube_iou(tube, truth, pixel_ends) for truth in mine] or [0.0]
                rows[c].append((tube.score, int(totals[c] + np.argmax(ious)), max(ious)))
        for c, mine in truths.items():
            totals[c] += len(mine)
    return np.array([[ap_of(rows[c], int(totals[c]), t) for c in range(classes)]
                     for t in thresholds])  # fmt: skip


def ap_of(rows: list[tuple[float, int, float]], total: int, threshold: float) -> float:
    scores, truth, overlap = np.array(rows, dtype=float).reshape(-1, 3).T
    return average_precision(scores, right_ones(scores, truth, overlap, threshold), total)


def by_video(frames: Sequence[FrameResult]) -> list[list[FrameResult]]:
    """The frames of each video, in their order."""
    videos: dict[str, list[FrameResult]] = defaultdict(list)
    for frame in frames:
        videos[frame.video].append(frame)
    return [sorted(one, key=lambda frame: frame.frame) for one in videos.values()]


def true_tubes(video: Sequence[FrameResult]) -> dict[int, list[Tube]]:
    """The tubes of each class that the true boxes of a video's frames make up."""
    parts: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = defaultdict(list)
    for frame in video:
        for box, label, tube in zip(
            frame.truth_boxes, frame.truth_labels, frame.truth_tubes, strict=True
        ):
            parts[int(label), int(tube)].append((frame.frame, box))
    tubes: dict[int, list[Tube]] = defaultdict(list)
    for (label, _), boxes in parts.items():
        numbers, places = zip(*boxes, strict=True)
        tubes[label].append(Tube(np.array(numbers), np.array(places)))
    return tubes
