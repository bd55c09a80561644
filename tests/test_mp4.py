import math
import os
from pathlib import Path

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
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="file/v.mp4 cannot be written"),
        video_writer(tmp_path / "file" / "v.mp4", 10) as write,
    ):
        write(np.zeros((32, 48, 3), np.uint8))


def test_frames_that_the_disk_did_not_take_are_noticed_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("vared_mm.datasets.mp4.frames_in", lambda name: 1)
    with pytest.raises(OSError, match="v.mp4 cannot be written: 1 of 2 frames .* disk full"):
        written(tmp_path / "v.mp4", 10, np.zeros((2, 32, 48, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".jpg", ".PNG", ".webm", ".flv"])
def test_a_format_that_takes_no_mpeg4_is_refused_before_the_first_frame(tmp_path, suffix):
    with (
        pytest.raises(
            ValueError, match=rf"v\{suffix} would hold MPEG-4, .* ends in \.mp4, \.m4v, "
        ),
        video_writer(tmp_path / f"v{suffix}", 10),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["", ".mp4", ".M4V", ".mov", ".mkv", ".avi", ".wmv", ".3gp"])
def test_every_format_that_is_taken_holds_all_frames(tmp_path, suffix):
    written(tmp_path / f"v{suffix}", 10, np.zeros((3, 32, 48, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [f"v{suffix}"]


def test_a_frame_of_another_size_is_refused(tmp_path):
    frames = [np.zeros((32, 48, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"a frame of \(64, 32\) pixels follows"):
        written(tmp_path / "v.mp4", 10, frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (211.222, 211.22),
        (30000 / 1001, 29.97),
        (1e6 / 1001, 999.0),
        (0.1, 0.1),
        (1e-9, 0.002),
        (0, 25),
        (-1, 25),
        (math.nan, 25),
        (math.inf, 25),
        (90000, 25),
    ],
)
def test_a_rate_that_mpeg4_has_not_becomes_the_nearest(tmp_path, rate, wanted):
    written(tmp_path / "v.mp4", rate, np.zeros((3, 32, 48, 3), np.uint8))
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(wanted, rel=1e-3)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize(
    "name", ["22:57:44.mp4", "%03d.mp4", "[a] $x.mp4", "跳舞.mp4", b"cl\xe4p/v.mp4"]
)
def test_files_of_any_name_are_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    written(Path(os.fsdecode(name)), 10, np.zeros((3, 32, 48, 3), np.uint8))
    assert os.path.getsize(name) > 100


def written(path, rate, frames):
    with video_writer(path, rate) as write:
        for frame in frames:
            write(frame)
