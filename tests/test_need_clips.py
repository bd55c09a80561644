"""Clips that need different things: what decides a class, how hard one is, where that is told."""

import csv

import cv2
import numpy as np
import pytest

from vared_mm.datasets.need_clips import (
    CLASSES,
    MOVES,
    NeedClipsConfig,
    between,
    make_need_clips,
    render_need_clip,
)

SMALL = NeedClipsConfig(clips_per_class=2, val_clips_per_class=1, frames=6, size=40)


def fills(frames):
    """How much the object of a still clip fills of its convex hull, and of the rectangle around."""
    grey = cv2.GaussianBlur(frames.mean(0), (0, 0), 1).mean(2).astype(np.uint8)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if mask[0].mean() > 127:
        mask = 255 - mask
    contour = max(cv2.findContours(mask, 0, 2)[0], key=cv2.contourArea)
    _, (width, height), _ = cv2.minAreaRect(contour)
    area = cv2.contourArea(contour)
    return area / cv2.contourArea(cv2.convexHull(contour)), area / (width * height)


def test_half_of_the_classes_are_told_by_motion_and_half_by_the_shape_of_what_stands_still():
    halves = [render_need_clip(name, 0).half for name in CLASSES]
    assert halves == ["motion"] * 4 + ["shape"] * 4


@pytest.mark.parametrize(
    ("name", "hull", "rectangle"),
    # A triangle fills half of its rectangle, a disc pi / 4 = 0.79.
    [("triangle", 1, 0.5), ("square", 1, 1), ("star", 0.6, 0.45), ("disc", 1, 0.79)],
)
def test_what_stands_still_has_the_shape_of_its_name(name, hull, rectangle):
    seeds = [s for s in range(20) if render_need_clip(name, s).difficulty < 0.3]
    assert len(seeds) > 2
    seen = []
    for seed in seeds:
        frames = render_need_clip(name, seed).frames.astype(float)
        seen.append(fills(frames))
        # Nothing moves: what differs between frames is noise.
        assert np.abs(frames[0] - frames[-1]).mean() < 10
    # Of some objects a part is as bright as the ground.
    np.testing.assert_allclose(np.median(seen, 0), (hull, rectangle), atol=0.12)


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_is_the_opposite_class_played_backward_but_for_noise(name):
    opposite = MOVES[MOVES.index(name) ^ 1]
    one, other = render_need_clip(name, 5).frames, render_need_clip(opposite, 5).frames
    assert np.abs(one.astype(float) - other[::-1]).mean() < 8
    assert np.abs(one.astype(float) - other).max() > 40


def test_harder_clips_move_less_and_show_smaller_shapes():
    assert between((0.5, 0.08), 0) == 0.5
    assert between((0.5, 0.08), 0.5) == pytest.approx(0.2)
    assert between((0.5, 0.08), 1) == pytest.approx(0.08)
    clips = [render_need_clip("move_left", seed) for seed in range(30)]
    moved = [np.abs(np.diff(c.frames.astype(float), axis=0)).mean() for c in clips]
    assert np.corrcoef(moved, [c.difficulty for c in clips])[0, 1] < -0.3
    still = [render_need_clip("square", seed) for seed in range(30)]
    contrast = [c.frames.mean((0, 3)).std() for c in still]
    assert np.corrcoef(contrast, [c.difficulty for c in still])[0, 1] < -0.3


def test_the_folder_tells_half_and_difficulty_of_each_clip(tmp_path):
    out = make_need_clips(tmp_path / "set", SMALL)
    with (out / "needs.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [f"{row['file']} {row['label']}" for row in rows]
    listed = [(out / f"{split}.txt").read_text().splitlines() for split in ("train", "val")]
    assert sorted(lines) == sorted(listed[0] + listed[1])
    assert len(listed[0]) == 16
    assert len(listed[1]) == 8
    assert (out / "classes.txt").read_text().split() == list(CLASSES)
    row = next(row for row in rows if row["file"] == "train/triangle_001.mp4")
    clip = render_need_clip("triangle", [0, 0, 5, 1], 6, 48)
    assert (row["label"], row["half"], float(row["difficulty"])) == (
        "5", "shape", pytest.approx(clip.difficulty, abs=1e-4),
    )  # fmt: skip
    assert all((out / row["file"]).stat().st_size > 300 for row in rows)


def test_a_class_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"name='still' is none of move_left, .*, star"):
        render_need_clip("still", 0)
