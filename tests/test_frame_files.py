"""Frames of pictures and videos, whole ones and others, and where their drawings go."""

import os
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vared_mm.datasets.mp4 import video_writer
from vared_mm.infer.frame_files import (
    UnreadableFileError,
    drawn_into,
    frame_rate,
    frames,
    is_picture,
    targets,
    warning_of,
)

GREYS = (20, 120, 220)


def picture(path, grey=90):
    Image.fromarray(np.full((24, 32, 3), grey, np.uint8)).save(path)
    return path


def video(path, count=40):
    noise = np.random.default_rng(0).integers(0, 255, (count, 48, 64, 3), np.uint8)
    with video_writer(path, 25) as write:
        for frame in noise:
            write(frame)
    return path


def cut(path, part):
    """A video with its index in front, as those for downloads have it, whose rest is missing."""
    whole = video(path).read_bytes()
    boxes, at = {}, 0
    while at < len(whole):
        (length,) = struct.unpack(">I", whole[at : at + 4])
        boxes[whole[at + 4 : at + 8]] = (at, length)
        at += length
    (index, length), start = boxes[b"moov"], boxes[b"mdat"][0]
    moov = bytearray(whole[index : index + length])
    table = moov.find(b"stco")
    for k in range(struct.unpack(">I", moov[table + 8 : table + 12])[0]):
        place = slice(table + 12 + 4 * k, table + 16 + 4 * k)
        moov[place] = struct.pack(">I", struct.unpack(">I", moov[place])[0] + length)
    front = whole[:start] + bytes(moov) + whole[start:index]
    path.write_bytes(front[: int(len(front) * part)])
    return path


def damaged(path, part):
    """A whole file with zeros in place of the last part of its frames."""
    content = bytearray(video(path).read_bytes())
    start, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    begin = start + int((end - start) * (1 - part))
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    return path


def edited(path, begin, count):
    """A whole file whose edit list shows some frames alone, as lossless trimming leaves it."""
    content = bytearray(video(path).read_bytes())
    # Of the whole, and of the track: the version, two times and then units a second.
    film, track = (content.find(box) + 16 for box in (b"mvhd", b"mdhd"))
    units = [struct.unpack(">I", content[at : at + 4])[0] for at in (film, track)]
    at = content.find(b"elst") + 12
    shown = struct.pack(">II", count * units[0] // 25, begin * units[1] // 25)
    content[at : at + 8] = shown
    path.write_bytes(content)
    return path


def longer(path, milliseconds):
    """A Matroska file that tells a duration beyond its last frame, as that of a longer sound."""
    content = bytearray(video(path).read_bytes())
    at = content.find(b"\x44\x89\x88") + 3
    (duration,) = struct.unpack(">d", content[at : at + 8])
    content[at : at + 8] = struct.pack(">d", duration + milliseconds)
    path.write_bytes(content)
    return path


def test_a_whole_video_is_told_nothing_of(tmp_path):
    assert warning_of(video(tmp_path / "a.mp4", 5)) == {}
    assert len(list(frames(tmp_path / "a.mp4"))) == 5
    assert frame_rate(tmp_path / "a.mp4") == 25


def test_half_a_video_is_refused_with_both_numbers_of_frames(tmp_path):
    text = r"cut\.mp4 is cut or broken: its header counts 40 frames, and \d\d? are there"
    with pytest.raises(UnreadableFileError, match=text):
        warning_of(cut(tmp_path / "cut.mp4", 0.5))


def test_a_video_without_its_last_frame_is_told(tmp_path):
    told = warning_of(cut(tmp_path / "cut.mp4", 0.98))["warning"]
    counted, seen = map(int, re.findall(r"\b\d+\b", told.partition("counts")[2]))
    assert counted == 40
    assert seen == len(list(frames(tmp_path / "cut.mp4"))) in (38, 39)


def decoded_and_told(path):
    """What is said before the frames are decoded, and after."""
    return warning_of(path), warning_of(path, len(list(frames(path))))


def test_a_video_whose_frames_cannot_all_be_decoded_is_told_with_both_numbers(tmp_path):
    half, end = damaged(tmp_path / "half.mp4", 0.5), damaged(tmp_path / "end.mp4", 0.04)
    assert warning_of(half) == {}
    text = r"half\.mp4 is cut or broken: \d\d? of 40 frames can be decoded"
    with pytest.raises(UnreadableFileError, match=text):
        decoded_and_told(half)
    count = len(list(frames(end)))
    assert 36 <= count < 40
    told = {"warning": f"{end} is cut or broken: {count} of 40 frames can be decoded"}
    assert decoded_and_told(end) == ({}, told)


@pytest.mark.parametrize(("begin", "count"), [(0, 20), (12, 28), (6, 20), (0, 40)])
def test_frames_outside_of_an_edit_list_are_not_missing(tmp_path, begin, count):
    path = edited(tmp_path / "a.mp4", begin, count)
    assert len(list(frames(path))) == count
    assert decoded_and_told(path) == ({}, {})


def test_a_duration_beyond_the_last_frame_is_a_doubt_and_no_error(tmp_path):
    assert decoded_and_told(longer(tmp_path / "a.mkv", 10)) == ({}, {})
    path = longer(tmp_path / "b.mkv", 700)
    told = {"warning": f"{path} may be cut: it tells 2.3 s, its frames end at 1.6 s"}
    assert decoded_and_told(path) == (told, told)


def test_a_stream_that_tells_neither_a_duration_nor_a_number_is_told_nothing_of(tmp_path):
    # The frames of an AVI without anything around them.
    content, bare = video(tmp_path / "a.avi", 6).read_bytes(), b""
    at = content.find(b"movi") + 4
    while content[at : at + 4] == b"00dc":
        (length,) = struct.unpack("<I", content[at + 4 : at + 8])
        bare += content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    (tmp_path / "a.m4v").write_bytes(bare)
    assert len(list(frames(tmp_path / "a.m4v"))) == 6
    assert decoded_and_told(tmp_path / "a.m4v") == ({}, {})


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_an_animated_picture_is_played_whole(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pages = [Image.fromarray(np.full((24, 32, 3), (grey, 0, 0), np.uint8)) for grey in GREYS]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=80)
    assert not is_picture(path)
    found = list(frames(path))
    assert [int(frame[0, 0, 2]) for frame in found] == pytest.approx(GREYS, abs=5)
    assert all(frame[0, 0, 0] < 5 for frame in found)
    assert warning_of(path) == {}


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_half_a_picture_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFileError, match=r"half\."):
        list(frames(path))


@pytest.mark.parametrize(
    "name", ["22:57.mp4", "[a] $x %d.mp4", "跳舞.mp4", b"cl\xe4p.mp4", "a\nb.mp4", "clip"]
)
def test_files_of_any_name_are_read_from_the_folder_they_are_in(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    video(tmp_path / "plain.mp4", 3).rename(path)
    assert len(list(frames(path))) == 3
    assert warning_of(path) == {}
    picture(tmp_path / "plain.png").rename(path.with_suffix(".png"))
    assert is_picture(path.with_suffix(".png"))
    (drawing,) = targets([path], Path("out"), "x")
    with drawn_into(drawing, path) as draw:
        draw(np.zeros((32, 32, 3), np.uint8))
    assert len(os.listdir("out")) == 1


def test_a_folder_and_what_is_not_there_are_told(tmp_path):
    for path, word in ((tmp_path, "it is a folder"), (tmp_path / "a.mp4", "it does not exist")):
        with pytest.raises(UnreadableFileError, match=word):
            warning_of(path)


def test_a_drawing_replaces_none_of_the_files_and_no_folder(tmp_path):
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "a_x.png")]
    with pytest.raises(ValueError, match=r"of .*a\.png would replace .*a_x\.png, which is given"):
        targets(files, tmp_path, "x")
    (tmp_path / "out" / "a_x.png").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"a_x\.png, which is a folder"):
        targets(files[:1], tmp_path / "out", "x")


def test_a_picture_that_the_disk_does_not_take_is_told(tmp_path, monkeypatch):
    def full(half, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with (
        pytest.raises(OSError, match=r"a_x\.png cannot be written: No space left"),
        drawn_into(tmp_path / "a_x.png", tmp_path / "a.png") as draw,
    ):
        draw(np.zeros((8, 8, 3), np.uint8))
    assert not os.listdir(tmp_path)


def test_opencv_reads_what_was_drawn(tmp_path):
    with drawn_into(tmp_path / "a.png", tmp_path / "b.png") as draw:
        draw(np.full((8, 8, 3), 7, np.uint8))
    assert (cv2.imread(str(tmp_path / "a.png")) == 7).all()
