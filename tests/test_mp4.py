import cv2
import numpy as np
import pytest

from vared_mm.datasets.mp4 import video_writer


def test_frames_come_back_in_order_with_their_rate(tmp_path):
    greys = [20, 120, 220]
    with video_writer(tmp_path / "v.mp4", rate=12.5) as write:
        for grey in greys:
            write(np.full((32, 48, 3), grey, np.uint8))
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    read = [video.read()[1] for _ in greys]
    assert not video.read()[0]
    assert [frame.shape for frame in read] == [(32, 48, 3)] * 3
    assert [frame.mean() for frame in read] == pytest.approx(greys, abs=5)
    assert video.get(cv2.CAP_PROP_FPS) == 12.5


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    target = tmp_path / "no_folder" / "v.mp4"
    with (
        pytest.raises(OSError, match="no_folder/v.mp4: its folder cannot be written"),
        video_writer(target, 10) as write,
    ):
        write(np.zeros((32, 48, 3), np.uint8))
