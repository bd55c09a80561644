"""What an evaluation keeps of each sample, and by what it knows a data set."""

import hashlib

import numpy as np
import pytest
import torch
from evaluations import Listed

from vared_mm.report.evaluation_samples import (
    describe,
    fingerprint,
    right_boxes,
    right_label,
    right_pixels,
)


def test_the_fingerprint_is_of_samples_and_truth_and_not_of_their_place(tmp_path):
    infos = [{"label": 0}, {"label": 1}]
    here = ["data/a/x.mp4", "data/b/y.mp4"]
    prints = {
        fingerprint(infos, here, None),
        fingerprint(infos, here, ("up", "down")),
        fingerprint(infos[::-1], here, None),
        fingerprint(infos, ["data/a/x.mp4", "data/b/z.mp4"], None),
    }
    assert len(prints) == 4
    assert fingerprint(infos, [f"/mnt/other/{file}" for file in here], None) in prints
    # Two splits of the same names and labels.
    splits = []
    for split in ("val", "test"):
        (tmp_path / split).mkdir()
        file = tmp_path / split / "x.mp4"
        file.write_text(split)
        splits.append(fingerprint(infos[:1], [str(file)], None))
    assert splits[0] != splits[1]
    # Frames of one folder, drawn again at another rate.
    drawn = [[{"label": 0, "total_frames": frames}] for frames in (25, 30)]
    assert len({fingerprint(one, ["data/x"], None) for one in drawn}) == 2
    # Of a label image, its contents.
    image = tmp_path / "x.png"
    seen = set()
    for content in (b"1", b"2"):
        image.write_bytes(content)
        seen.add(fingerprint([{"seg_map_path": str(image)}], ["x.jpg"], None))
    assert len(seen) == 2


def test_frames_of_other_sizes_in_a_folder_of_the_same_name_are_other_samples(tmp_path):
    seen = set()
    for place, sizes in dict(a=(3, 5), copy=(3, 5), b=(3, 6), fewer=(3,)).items():
        (tmp_path / place / "x").mkdir(parents=True)
        for i, size in enumerate(sizes):
            (tmp_path / place / "x" / f"img_{i}.jpg").write_bytes(bytes(size))
        frames = [{"label": 0, "total_frames": 2}]
        seen.add(fingerprint(frames, [str(tmp_path / place / "x")], None))
    (tmp_path / "copy" / "x" / ".DS_Store").write_bytes(b"1")
    assert fingerprint(frames, [str(tmp_path / "copy" / "x")], None) in seen
    assert len(seen) == 3
    # That of files is as it was: results of former versions stand beside new ones.
    (tmp_path / "v.mp4").write_bytes(bytes(7))
    told = hashlib.sha256(b'null["v.mp4", 7, {"label": 1}]').hexdigest()
    assert fingerprint([{"label": 1}], [str(tmp_path / "v.mp4")], None) == told


def test_a_key_frame_is_named_by_its_video_and_frame():
    dataset = Listed([dict(video="v", frame=3), dict(img_path="a.jpg"), dict()])
    data, files = describe(dataset, None)
    assert files == ["v:3", "a.jpg", "2"]
    assert (data.name, data.samples, data.classes) == ("Listed", 3, None)


def test_answers_by_hand():
    scores = torch.tensor([0.1, 0.7, 0.2])
    right = dict(gt_label=torch.tensor([1]), pred_score=scores)
    assert right_label(right) == (1, 1, 1.0, pytest.approx(-np.log(0.7)))
    wrong = right_label({**right, "gt_label": torch.tensor([0])})
    assert wrong == (0, 1, 0.0, pytest.approx(-np.log(0.1)))
    several = right_label({**right, "gt_label": torch.tensor([0, 1, 1])})
    assert several[:2] == (-1, 1)
    assert np.isnan(several[2:]).all()

    class Head:
        ignore_index = 9

    label, told = torch.tensor([[[0, 1, 9, 2]]]), torch.tensor([[[0, 2, 0, 2]]])
    image = dict(gt_sem_seg=dict(data=label), pred_sem_seg=dict(data=told))
    assert right_pixels(Head, image) == (-1, -1, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert np.isnan(right_pixels(Head, {**image, "gt_sem_seg": dict(data=label * 0 + 9)})[2])


def test_the_share_of_right_boxes_by_hand():
    """Two boxes are there, both are found, one with its class; classes 0 and 2."""
    unit = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    frame = dict(
        video="v", frame=1, original_shape=(10, 20),
        truth=dict(boxes=unit, labels=np.array([0, 2]), tubes=np.array([0, 1])),
        pred_instances=dict(
            bboxes=unit * np.array([20, 10, 20, 10]),
            scores=np.array([0.9, 0.8]),
            class_probs=np.array([[0.2, 0.5, 0.3], [0.0, 0.1, 0.9]]),
        ),
    )  # fmt: skip
    # The highest score is 0.8 · 0.9, of class 2.
    assert right_boxes(3, frame) == (-1, 2, 0.5, 0.5)
    empty = {k: v[:0] for k, v in frame["truth"].items()}
    label, predicted, *unknown = right_boxes(3, {**frame, "truth": empty})
    assert (label, predicted) == (-1, 2)
    assert np.isnan(unknown).all()
