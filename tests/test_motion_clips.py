"""The demo's videos: only motion tells the class, boxes are right, sets are whole or absent."""

import cv2
import numpy as np
import pytest

from vared_mm.datasets.motion_clips import (
    CLASSES,
    MotionClipsConfig,
    draw_frame,
    make_motion_clips,
    random_scene,
    render_clip,
    trajectory,
)

SMALL = MotionClipsConfig(clips_per_class=2, val_clips_per_class=1, frames=6, size=40, seed=3)
OPPOSITES = [
    ("move_left", "move_right"),
    ("move_up", "move_down"),
    ("rotate_counterclockwise", "rotate_clockwise"),
    ("shrink", "grow"),
]
CENTRE = np.array([40.0, 40.0, np.log(10.0), 0.0])


@pytest.mark.parametrize(
    ("motion", "extent", "first", "last"),
    [
        ("move_right", 20.0, (30, 40, 10, 0), (50, 40, 10, 0)),
        ("move_left", 20.0, (50, 40, 10, 0), (30, 40, 10, 0)),
        ("move_down", 20.0, (40, 30, 10, 0), (40, 50, 10, 0)),
        ("move_up", 20.0, (40, 50, 10, 0), (40, 30, 10, 0)),
        ("grow", np.log(4.0), (40, 40, 5, 0), (40, 40, 20, 0)),
        ("shrink", np.log(4.0), (40, 40, 20, 0), (40, 40, 5, 0)),
        ("rotate_clockwise", np.pi, (40, 40, 10, -np.pi / 2), (40, 40, 10, np.pi / 2)),
        ("rotate_counterclockwise", np.pi, (40, 40, 10, np.pi / 2), (40, 40, 10, -np.pi / 2)),
        ("still", 20.0, (40, 40, 10, 0), (40, 40, 10, 0)),
    ],
)
def test_each_class_moves_as_its_name_says(motion, extent, first, last):
    poses = trajectory(motion, CENTRE, extent, frames=5)
    poses[:, 2] = np.exp(poses[:, 2])
    np.testing.assert_allclose(poses[[0, 2, 4]], [first, (40, 40, 10, 0), last])


def test_a_quarter_turn_clockwise_brings_the_right_side_down():
    scene = random_scene(np.random.default_rng(0), 80)
    scene.outline[:] = [(1.0, 0.0)]
    _, right = draw_frame(scene, CENTRE)
    _, below = draw_frame(scene, CENTRE + np.array([0, 0, 0, np.pi / 2]))
    np.testing.assert_allclose(right, (50, 40, 50, 40))
    np.testing.assert_allclose(below, (40, 50, 40, 50))


@pytest.mark.parametrize("seed", range(5))
def test_boxes_enclose_the_pixels_the_object_covers_and_touch_them(seed):
    scene = random_scene(np.random.default_rng(seed), 80)
    scene.texture[:] = 300
    frame, box = draw_frame(scene, np.array([45.0, 30.0, np.log(18.0), 0.7]))
    rows, columns = np.nonzero(np.abs(frame - scene.background).max(axis=2) > 5)
    seen = columns.min(), rows.min(), columns.max(), rows.max()
    np.testing.assert_allclose(box, seen, atol=1.5)


def test_boxes_end_at_the_frame():
    scene = random_scene(np.random.default_rng(0), 80)
    _, box = draw_frame(scene, np.array([0.0, 79.0, np.log(30.0), 0.0]))
    assert box[0] == 0
    assert box[3] == 80


def test_the_boxes_of_a_clip_move_right_and_grow():
    _, moving = render_clip("move_right", seed=4)
    _, growing = render_clip("grow", seed=4)
    assert np.all(np.diff(moving[:, 2]) >= 0)
    assert moving[-1, 2] - moving[0, 2] > 10
    widths = growing[:, 2] - growing[:, 0]
    assert np.all(np.diff(widths) >= 0)
    assert widths[-1] > 1.5 * widths[0]


@pytest.mark.parametrize("motion", CLASSES)
def test_the_middle_frame_is_the_same_picture_whatever_the_class(motion):
    expected, _ = render_clip("still", seed=7, frames=9)
    clip, _ = render_clip(motion, seed=7, frames=9)
    np.testing.assert_allclose(clip[4].astype(int), expected[4].astype(int), atol=1)


@pytest.mark.parametrize(("backward", "forward"), OPPOSITES)
def test_opposite_classes_are_each_other_played_backward(backward, forward):
    clip, boxes = render_clip(backward, seed=8)
    mirror, mirror_boxes = render_clip(forward, seed=8)
    np.testing.assert_allclose(clip.astype(int), mirror[::-1].astype(int), atol=1)
    np.testing.assert_allclose(boxes, mirror_boxes[::-1])


def test_the_seed_decides_every_pixel():
    same, other = render_clip("grow", seed=1)[0], render_clip("grow", seed=2)[0]
    np.testing.assert_array_equal(render_clip("grow", seed=1)[0], same)
    assert np.abs(same.astype(int) - other).mean() > 10


def test_an_unknown_motion_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"motion='jump' is none of move_left, .*, still"):
        render_clip("jump", seed=0)


def test_the_files_hold_the_clips_and_the_annotations_name_them(tmp_path):
    out = make_motion_clips(tmp_path / "set", SMALL)
    assert (out / "classes.txt").read_text().split() == list(CLASSES)
    train = (out / "train.txt").read_text().splitlines()
    assert len(train) == 18
    assert len((out / "val.txt").read_text().splitlines()) == 9
    assert train[2] == "train/move_right_000.mp4 1"
    video = cv2.VideoCapture(str(out / "train/move_right_000.mp4"))
    decoded = []
    while (read := video.read())[0]:
        decoded.append(read[1][..., ::-1])
    drawn, _ = render_clip("move_right", seed=[3, 0, 1, 0], frames=6, size=40)
    assert np.shape(decoded) == (6, 40, 40, 3)
    assert np.abs(np.array(decoded, int) - drawn).mean() < 10


def test_a_set_made_with_other_values_is_not_taken_for_the_one_asked_for(tmp_path):
    make_motion_clips(tmp_path / "set", SMALL)
    with pytest.raises(FileExistsError, match=r"'frames': 6.*'frames': 24"):
        make_motion_clips(tmp_path / "set")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 49}, "size=49 has to be an even number"),
        ({"size": 48}, "size=48 is a width that decord misreads; take another"),
        ({"size": 16}, "from 32 on"),
        ({"frames": 1}, "frames=1 has to be at least 2"),
        ({"clips_per_class": 0}, "clips_per_class=0 has to be at least 1"),
        ({"seed": -1}, "seed=-1 has to be 0 or more"),
    ],
)
def test_a_set_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MotionClipsConfig(**values)
