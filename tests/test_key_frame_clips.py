"""Clips around key frames and their augmentation, which boxes go along with."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from vared_mm.datasets.key_frame_clips import (
    JitteredCrop,
    SampleAroundKeyFrame,
    cropped,
    key_frame_pipelines,
)


def test_an_interval_spreads_the_clip():
    results = dict(total_frames=100, frame=50, video="v")
    sampled = SampleAroundKeyFrame(4, intervals=3).transform(dict(results))
    assert sampled["frame_inds"].tolist() == [43, 46, 49, 52]
    drawn = {
        SampleAroundKeyFrame(4, (1, 2)).transform(dict(results))["frame_interval"]
        for _ in range(30)
    }
    assert drawn == {1, 2}


def painted(boxes, size=(60, 80)):
    """A frame that is white inside the boxes, and what the transforms read."""
    image = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return dict(
        imgs=[image], img_shape=size, gt_bboxes=np.array(boxes, np.float32).reshape(-1, 4),
        gt_labels=np.arange(len(boxes)), modality="RGB",
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_boxes_stay_on_what_they_enclose_through_all_augmentation(seed):
    init_default_scope("mmaction")
    np.random.seed(seed)
    train, _ = key_frame_pipelines(clip_len=4, size=96, flip=0.5)
    kinds = [step["type"] for step in train]
    first = kinds.index("JitteredCrop")
    moved = Compose(train[first : kinds.index("ColorJitter")])(painted([(25, 18, 55, 45)]))
    rows, columns = np.nonzero(moved["imgs"][0][..., 0] > 127)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(moved["gt_bboxes"][0], seen, atol=1.5)
    assert moved["imgs"][0].shape == (96, 96, 3)


def test_a_crop_by_hand():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert cropped(image, 1, -1, 5, 2).tolist() == [[0, 0, 0, 0], [1, 2, 3, 0], [5, 6, 7, 0]]


def test_a_box_that_is_cropped_away_is_left_out_with_its_label(monkeypatch):
    # Left edge 16 pixels in, of 80: of the boxes remain nothing, a fifth, a half and all.
    monkeypatch.setattr(np.random, "uniform", lambda low, high, n: np.array([0.2, 0, 0, 0]))
    results = painted([(0, 0, 10, 10), (0, 0, 20, 10), (0, 0, 32, 10), (40, 0, 50, 10)])
    cut = JitteredCrop(min_visible=0.25).transform(results)
    assert cut["gt_bboxes"].tolist() == [[0, 0, 16, 10], [24, 0, 34, 10]]
    assert cut["gt_labels"].tolist() == [2, 3]
    assert cut["img_shape"] == (60, 64)


def test_a_video_shorter_than_its_annotations_is_told_by_name():
    with pytest.raises(ValueError, match="the key frame 9 of walk/a is not among its 8 frames"):
        SampleAroundKeyFrame(4).transform(dict(total_frames=8, frame=9, video="walk/a"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampleAroundKeyFrame(0), "clip_len=0 and intervals=1 have to be at least 1"),
        (lambda: SampleAroundKeyFrame(4, ()), "have to be at least 1"),
        (lambda: JitteredCrop(0.5), "jitter=0.5 has to be from 0 to below 0.5"),
        (lambda: JitteredCrop(min_visible=2), "min_visible=2 has to be a share"),
    ],
)
def test_transforms_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
