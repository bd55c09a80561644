"""Generated tubes: a J-HMDB of one's own."""

import cv2
import numpy as np
import pytest

from vared_mm.datasets.jhmdb import JHMDBDataset
from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes
from vared_mm.datasets.tube_annotations import read_tubes


def test_generated_tubes_are_a_j_hmdb_whose_boxes_are_those_of_the_clips(tmp_path):
    config = MotionTubesConfig(("grow", "move_left"), 1, 1, frames=6, size=48)
    out = make_motion_tubes(tmp_path / "set", config)
    whole = JHMDBDataset("JHMDB-GT.pkl", "train", data_root=str(out))
    assert [len(whole), whole.metainfo["classes"]] == [12, ("grow", "move_left")]
    widths = [whole.get_data_info(i)["gt_bboxes"][0, 2:] for i in range(6)]
    assert np.all(np.diff(widths, axis=0) >= 0)
    frame = cv2.imread(str(out / "Frames/grow/train_000/00003.png"))
    assert frame.shape == (48, 48, 3)
    assert make_motion_tubes(tmp_path / "set", config) == out
    with pytest.raises(FileExistsError, match=r"holds motion tubes made with .*'frames': 6"):
        make_motion_tubes(tmp_path / "set")


def test_without_test_clips_the_training_videos_are_tested(tmp_path):
    config = MotionTubesConfig(("still",), 2, 0, frames=2, size=32)
    tubes = read_tubes(make_motion_tubes(tmp_path / "set", config) / "JHMDB-GT.pkl")
    assert tubes.test_videos == tubes.train_videos == [["still/train_000", "still/train_001"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(classes=("jump",)), r"classes=\('jump',\) are not some of move_left"),
        (dict(classes=("grow", "grow")), "each once"),
        (dict(frames=1), "frames=1 has to be at least 2"),
        (dict(clips_per_class=0), "clips_per_class=0 has to be at least 1"),
    ],
)
def test_tubes_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MotionTubesConfig(**values)
