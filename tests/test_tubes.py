"""Annotations of action tubes from text, masks, joints, tables and hand boxes."""

import csv
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.motion_tubes import write_frames
from vared_mm.datasets.tube_annotations import read_tubes
from vared_mm.datasets.tube_converters import (
    COLUMNS,
    rows_of_hands,
    rows_of_joints,
    rows_of_masks,
    rows_of_table,
    rows_of_text,
)
from vared_mm.datasets.tube_rows import TubeRow, annotations_of, size_of_frames, size_of_video
from vared_mm.datasets.video_lists import AnnotationError

TOOL = Path(__file__).parents[1] / "tools/data/jhmdb.py"
SHARED = Path(__file__).parents[2] / "shared/data"
LABELS = ["catch", "brush_hair"]


@pytest.fixture
def tool(monkeypatch, capsys):
    """The command line, without the seconds that a process of its own would start in."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, options)])
        runpy.run_path(str(TOOL), run_name="__main__")
        return capsys.readouterr().out

    return run


def nested(folder):
    """Two frames of one video with two people, in a folder for each video."""
    for frame, text in ((1, "2 1 2 11 12\n1 30 2 40 12\n"), (2, "2 3 2 13 12\n\n")):
        path = folder / "labels/brush_hair/b_1" / f"{frame:05d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "labels"


def test_text_in_folders_by_hand(tmp_path):
    assert list(rows_of_text(nested(tmp_path), LABELS)) == [
        TubeRow("brush_hair/b_1", "brush_hair 0", "brush_hair", 1, (1, 2, 11, 12)),
        TubeRow("brush_hair/b_1", "catch 0", "catch", 1, (30, 2, 40, 12)),
        TubeRow("brush_hair/b_1", "brush_hair 0", "brush_hair", 2, (3, 2, 13, 12)),
    ]


def test_text_in_a_zip_tells_label_video_and_frame_in_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "truth.zip", "w") as archive:
        archive.writestr("truth/brush_hair_a_b_1_00007.txt", "2 1 2 11 12\n")
    (row,) = rows_of_text(tmp_path / "truth.zip", LABELS)
    assert row == TubeRow("brush_hair/a_b_1", "brush_hair 0", "brush_hair", 7, (1, 2, 11, 12))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("catch_a_00001.txt", "3 1 2 11 12", "wanted `label x1 y1 x2 y2` with a label from 1 to 2"),
        ("catch_a_00001.txt", "0 1 2 11 12", "label from 1 to 2"),
        ("catch_a_00001.txt", "1.5 1 2 11 12", "label from 1 to 2"),
        ("catch_a_00001.txt", "inf 1 2 11 12", "label from 1 to 2"),
        ("catch_a_00001.txt", "1 nan 2 11 12", "has the line '1 nan 2 11 12'"),
        ("catch_a_00001.txt", "1 1 2 11 12 é", "catch_a_00001.txt is no text in UTF-8"),
        ("catch_a_00001.txt", "1 1 2 11", "has the line '1 1 2 11'"),
        ("catch_a_00001.txt", "catch 1 2 11 12", "has the line 'catch 1 2 11 12'"),
        ("jump_a_00001.txt", "1 1 2 11 12", "jump_a_00001.txt tells no video and frame"),
    ],
)
def test_text_that_tells_no_box_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(AnnotationError, match=message):
        list(rows_of_text(tmp_path, LABELS))


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="neither a folder nor a zip"):
        list(rows_of_text(tmp_path / "nothing", LABELS))
    with pytest.raises(AnnotationError, match=r"no <label>/<video>/puppet_mask.mat in"):
        list(rows_of_masks(tmp_path))


def test_a_zip_packed_on_a_mac_reads_alike(tmp_path):
    with zipfile.ZipFile(tmp_path / "truth.zip", "w") as archive:
        archive.writestr("truth/catch_a_00007.TXT", "1 1 2 11 12\n")
        archive.writestr("__MACOSX/truth/._catch_a_00007.txt", b"\0\x05\xb0\xff")
    assert len(list(rows_of_text(tmp_path / "truth.zip", LABELS))) == 1


def test_a_damaged_zip_is_named(tmp_path):
    file = tmp_path / "truth.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("catch_a_00007.txt", "1 1 2 11 12\n")
    file.write_bytes(file.read_bytes().replace(b"1 1 2", b"9 9 9"))
    with pytest.raises(AnnotationError, match=r"truth.zip cannot be unpacked: Bad CRC"):
        list(rows_of_text(file, LABELS))


def test_masks_by_hand_and_a_frame_without_one(tmp_path):
    masks = np.zeros((20, 30, 3), np.uint8)
    masks[4:9, 10:16, 0] = 1
    masks[0, 29, 2] = 1
    (tmp_path / "catch/v").mkdir(parents=True)
    savemat(tmp_path / "catch/v/puppet_mask.mat", {"part_mask": masks})
    assert list(rows_of_masks(tmp_path)) == [
        TubeRow("catch/v", "0", "catch", 1, (10, 4, 16, 9)),
        TubeRow("catch/v", "0", "catch", 3, (29, 0, 30, 1)),
    ]
    savemat(tmp_path / "catch/v/puppet_mask.mat", {"mask": masks})
    with pytest.raises(AnnotationError, match="has no part_mask; it has"):
        list(rows_of_masks(tmp_path))
    (tmp_path / "catch/v/puppet_mask.mat").write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"v.puppet_mask.mat cannot be read: .*truncated"):
        list(rows_of_masks(tmp_path))


def test_matlab_leaves_the_dimension_of_a_single_frame_out(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 10:16] = 1
    joints = np.array([[11.0, 31.0], [21.0, 61.0]])
    (tmp_path / "catch/v").mkdir(parents=True)
    savemat(tmp_path / "catch/v/puppet_mask.mat", {"part_mask": mask})
    savemat(tmp_path / "catch/v/joint_positions.mat", {"pos_img": joints})
    assert [row.box for row in rows_of_masks(tmp_path)] == [(10, 4, 16, 9)]
    assert [row.box for row in rows_of_joints(tmp_path)] == [(8, 16, 32, 64)]


def test_joints_by_hand(tmp_path):
    joints = np.array([[[11.0, 31.0]], [[21.0, 61.0]]]).transpose(0, 2, 1)
    (tmp_path / "catch/v").mkdir(parents=True)
    savemat(tmp_path / "catch/v/joint_positions.mat", {"pos_img": joints})
    (row,) = rows_of_joints(tmp_path, margin=0.1)
    # 20 x 40 pixels, a tenth of it added on each side, counted from 0.
    assert row.box == (8, 16, 32, 64)


def table(file, *rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return file


def test_a_table_by_hand(tmp_path):
    file = table(tmp_path / "boxes.csv", ("walk/a", 7, "walk", 3, 1.5, 2, 11, 12))
    assert list(rows_of_table(file)) == [TubeRow("walk/a", "7", "walk", 3, (1.5, 2, 11, 12))]
    table(file, ("walk/a", 7, "walk", "x", 1.5, 2, 11, 12))
    with pytest.raises(AnnotationError, match=r"boxes.csv, line 2: invalid literal"):
        list(rows_of_table(file))
    for odd in (("walk/a", 7, "walk", 3, "inf", 2, 11, 12), ("walk/a", 7, "walk", -3, 1, 2, 3, 4)):
        with pytest.raises(AnnotationError, match=r"boxes.csv, line 2 has the frame"):
            list(rows_of_table(table(file, odd)))
    rows = table(file, ("walk/a", 7, "walk", 3, 1.5, 2, 11, 12)).read_text()
    file.write_text(rows, encoding="utf-8-sig")
    assert len(list(rows_of_table(file))) == 1
    file.write_text("video,frame\n")
    with pytest.raises(AnnotationError, match="has no tube, label, x1, y1, x2, y2; wanted the col"):
        list(rows_of_table(file))


def test_rows_become_tubes_in_the_order_of_their_frames():
    rows = [
        TubeRow("v", "0", "walk", 2, (2, 0, 4, 4)),
        TubeRow("v", "1", "walk", 1, (5, 0, 9, 4)),
        TubeRow("v", "0", "walk", 1, (1, 0, 3, 4)),
        TubeRow("w", "0", "run", 1, (1, 0, 3, 4)),
    ]
    made = annotations_of(rows, lambda video: (5, (10, 20)), [(["v"], ["w"])])
    assert made.labels == ["run", "walk"]
    assert [tube.tolist() for tube in made.gttubes["v"][1]] == [
        [[1, 1, 0, 3, 4], [2, 2, 0, 4, 4]],
        [[1, 5, 0, 9, 4]],
    ]
    assert (made.nframes["w"], made.resolution["w"]) == (5, (10, 20))


def test_labels_that_are_numbers_stand_in_the_order_of_their_values():
    rows = [TubeRow("v", "0", label, 1, (2, 0, 4, 4)) for label in ("10", "2", "0")]
    made = annotations_of(rows, lambda video: (5, (10, 20)), [(["v"], [])])
    assert made.labels == ["0", "2", "10"]


def test_labels_and_videos_nobody_knows_are_refused():
    rows = [TubeRow("v", "0", "walk", 1, (2, 0, 4, 4))]
    with pytest.raises(AnnotationError, match=r"the labels \['walk'\] are none of the 1"):
        annotations_of(rows, lambda video: (5, (10, 20)), [(["v"], [])], ["run"])
    with pytest.raises(AnnotationError, match="1 videos .* 'w'; the annotated ones .* like 'v'"):
        annotations_of(rows, lambda video: (5, (10, 20)), [(["v"], ["w"])])
    with pytest.raises(AnnotationError, match="have no box, as 'v'; none has"):
        annotations_of([], lambda video: (5, (10, 20)), [(["v"], [])])


def test_sizes_are_read_from_frames_and_videos(tmp_path):
    clip = np.zeros((4, 32, 40, 3), np.uint8)
    write_frames(tmp_path / "v", clip)
    (tmp_path / "v" / ".DS_Store").touch()
    write_video(tmp_path / "v.mp4", clip)
    assert size_of_frames(tmp_path / "v") == (4, (32, 40))
    assert size_of_video(tmp_path / "v.mp4") == (4, (32, 40))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="holds no frames like 00001.png"):
        size_of_frames(tmp_path / "empty")
    with pytest.raises(AnnotationError, match="there is no video"):
        size_of_video(tmp_path / "w.mp4")
    (tmp_path / "w.mp4").write_text("no video")
    with pytest.raises(AnnotationError, match=r"w.mp4 is no video that decord can read"):
        size_of_video(tmp_path / "w.mp4")


def test_frames_are_numbered_images_each_counted_once(tmp_path):
    write_frames(tmp_path / "v", np.zeros((4, 32, 48, 3), np.uint8))
    for number in range(1, 5):
        (tmp_path / "v" / f"{number:05d}.json").touch()
        (tmp_path / "v" / f"{number:05d}.jpg").write_bytes(
            (tmp_path / "v" / "00001.png").read_bytes()
        )
    (tmp_path / "v" / "².png").touch()
    assert size_of_frames(tmp_path / "v") == (4, (32, 48))
    for suffix in ("png", "jpg"):
        (tmp_path / "v" / f"00002.{suffix}").unlink()
    with pytest.raises(AnnotationError, match=r"3 frames .* 1 to 4, of which 1 are missing, as 2;"):
        size_of_frames(tmp_path / "v")


def test_hands_without_their_row_or_array_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\nb.mp4,A\n")
    (tmp_path / "tubes_auto.npz").write_bytes(b"no archive")
    with pytest.raises(AnnotationError, match="tubes_auto.npz cannot be read"):
        list(rows_of_hands(tmp_path))
    arrays = dict(files=["a.mp4"], clean=[True], boxes_xyxy_200=np.ones((1, 1, 4)))
    np.savez(tmp_path / "tubes_auto.npz", **arrays)
    with pytest.raises(AnnotationError, match=r"labels.csv has no row for a.mp4"):
        list(rows_of_hands(tmp_path))


def test_the_tool_makes_a_pickle_from_videos_and_a_table(tmp_path, tool):
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", np.zeros((4, 32, 40, 3), np.uint8))
    table(
        tmp_path / "boxes.csv",
        ("a", 0, "walk", 1, 1, 2, 11, 12),
        ("b", 0, "run", 4, 1, 2, 11, 12),
    )
    (tmp_path / "test.txt").write_text("b\nb\n")
    options = ("csv", tmp_path / "boxes.csv", tmp_path / "o.pkl", "--videos", tmp_path, "--test")
    assert tool(*options, tmp_path / "test.txt").endswith("o.pkl: 2 videos, 2 classes\n")
    tubes = read_tubes(tmp_path / "o.pkl")
    assert (tubes.train_videos, tubes.test_videos) == ([["a"]], [["b"]])
    assert tubes.gttubes["b"][0][0].tolist() == [[4, 1, 2, 11, 12]]
    (tmp_path / "test.txt").write_text("\n")
    with pytest.raises(SystemExit, match=r"test\.txt names no video; wanted the test videos"):
        tool(*options, tmp_path / "test.txt")


def test_the_tool_ends_with_what_is_wrong_and_writes_nothing(tmp_path, tool):
    write_frames(tmp_path / "frames/brush_hair/b_1", np.zeros((2, 10, 20, 3), np.uint8))
    for name, lines in (("test.txt", ["brush_hair/b_1"]), ("labels.txt", LABELS)):
        (tmp_path / name).write_text("\n".join(lines))
    wanted = r"brush_hair/b_1: the box 30 2 40 12 \(x1 y1 x2 y2\) of frame 1 is outside"
    with pytest.raises(SystemExit, match=wanted):
        tool(
            "text", nested(tmp_path), tmp_path / "o.pkl", "--frames", tmp_path / "frames",
            "--test", tmp_path / "test.txt", "--labels", tmp_path / "labels.txt",
        )  # fmt: skip
    assert not (tmp_path / "o.pkl").exists()


@pytest.mark.skipif(not (SHARED / "jhmdb").is_dir(), reason="J-HMDB's clip is not here")
def test_the_joints_of_a_real_clip_lie_in_their_boxes_in_its_frames():
    from scipy.io import loadmat

    rows = list(rows_of_joints(SHARED / "jhmdb/joint_positions"))
    (video,) = {row.video for row in rows}
    assert size_of_frames(SHARED / "jhmdb/Frames" / video) == (len(rows), (240, 320))
    joints = loadmat(SHARED / "jhmdb/joint_positions" / video / "joint_positions.mat")["pos_img"]
    for row in rows:
        (x, y), (x1, y1, x2, y2) = joints[:, :, row.frame - 1] - 1, row.box
        assert ((x1 < x) & (x < x2) & (y1 < y) & (y < y2)).all()


@pytest.mark.skipif(not (SHARED / "asl24").is_dir(), reason="asl24 is not here")
def test_hand_boxes_are_those_of_the_clean_clips():
    rows = list(rows_of_hands(SHARED / "asl24"))
    with np.load(SHARED / "asl24/tubes_auto.npz") as tubes:
        assert len(rows) == 32 * int(tubes["clean"].sum())
        assert rows[33].box == tuple(tubes["boxes_xyxy_200"][1, 1])
    assert rows[0][:4] == ("jack_A_0000", "0", "A", 1)
