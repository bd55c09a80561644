"""Clips that need different things: what decides a class, how hard one is, where that is told."""

import csv

import cv2
import numpy as np
import pytest

from vared_mm.datasets.need_clips import (
    CLASSES,
    MOVES,
    TURNS,
    NeedClipsConfig,
    between,
    make_need_clips,
    render_need_clip,
)

SMALL = NeedClipsConfig(clips_per_class=2, val_clips_per_class=1, frames=6, size=48)


def power(frame, degrees):
    """Of the ground's stripes in a direction, 0.2 to 0.3 of 64 pixels long."""
    grey = frame.mean(2)
    y, x = np.mgrid[:64, :64]
    # Neither the smooth ground nor the object in the middle.
    grey = (grey - cv2.GaussianBlur(grey, (0, 0), 8)) * (np.hypot(x - 32, y - 32) > 22)
    u, v = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return max(
        abs((grey * np.exp(2j * np.pi * (x * u + y * v) / length)).sum())
        for length in np.linspace(12.8, 19.2, 30)
    )


def test_half_of_the_classes_are_told_by_motion_and_half_by_still_stripes():
    halves = [render_need_clip(name, 0).half for name in CLASSES]
    assert halves == ["motion"] * 4 + ["texture"] * 4


@pytest.mark.parametrize("name", TURNS)
def test_still_stripes_run_as_their_name_says(name):
    seeds = [s for s in range(20) if render_need_clip(name, s).difficulty < 0.3]
    assert len(seeds) > 2
    for seed in seeds:
        frames = render_need_clip(name, seed).frames.astype(float)
        found = {other: power(frames.mean(0), turn) for other, turn in TURNS.items()}
        assert max(found, key=found.get) == name
        # Nothing moves: what differs between frames is noise.
        assert np.abs(frames[0] - frames[-1]).mean() < 10


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_is_the_opposite_class_played_backward_but_for_noise(name):
    opposite = MOVES[MOVES.index(name) ^ 1]
    one, other = render_need_clip(name, 5).frames, render_need_clip(opposite, 5).frames
    assert np.abs(one.astype(float) - other[::-1]).mean() < 8
    assert np.abs(one.astype(float) - other).max() > 40


def test_harder_clips_move_less_and_have_fainter_stripes():
    assert between((0.5, 0.08), 0) == 0.5
    assert between((0.5, 0.08), 0.5) == pytest.approx(0.2)
    assert between((0.5, 0.08), 1) == pytest.approx(0.08)
    clips = [render_need_clip("move_left", seed) for seed in range(30)]
    moved = [np.abs(np.diff(c.frames.astype(float), axis=0)).mean() for c in clips]
    assert np.corrcoef(moved, [c.difficulty for c in clips])[0, 1] < -0.3


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
    row = next(row for row in rows if row["file"] == "train/stripes_45_001.mp4")
    clip = render_need_clip("stripes_45", [0, 0, 5, 1], 6, 48)
    assert (row["label"], row["half"], float(row["difficulty"])) == (
        "5", "texture", pytest.approx(clip.difficulty, abs=1e-4),
    )  # fmt: skip
    assert all((out / row["file"]).stat().st_size > 300 for row in rows)


def test_a_class_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"name='still' is none of move_left, .*, stripes_135"):
        render_need_clip("still", 0)
