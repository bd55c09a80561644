"""Annotation files made by the command lines of tools/data from generated videos and lists."""

import json
import os
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vared_mm.datasets import annotation_files
from vared_mm.datasets import check_videos as checking
from vared_mm.datasets.check_videos import check_videos
from vared_mm.datasets.video_lists import youtube_id

TOOLS = Path(__file__).parent.parent / "tools" / "data"
HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
SING, RIDE = "--sing_in-1", "ride_a_bike"  # 11 characters each, as YouTube's


def run(monkeypatch, tool, *arguments):
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    runpy.run_path(str(TOOLS / tool), run_name="__main__")


def write_video(path, frames=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (32, 32))
    for i in range(frames):
        writer.write(np.full((32, 32, 3), 40 * i, np.uint8))
    writer.release()


@pytest.fixture
def kinetics(tmp_path):
    """Two classes, five videos in the csv: two readable, one empty, one no video, one missing."""
    videos = tmp_path / "videos"
    write_video(videos / "riding_a_bike" / f"{RIDE}_000010_000020.mp4")
    write_video(videos / "singing" / f"{SING}.mp4")
    (videos / "singing" / "emptyvideo0_000001_000011.mp4").touch()
    (videos / "singing" / "nonsense000_000001_000011.mkv").write_bytes(b"no video at all")
    rows = [
        f"riding a bike,{RIDE},10,20,train,0",
        f"singing,{SING},5,15,train,0",
        "singing,emptyvideo0,1,11,train,0",
        "singing,nonsense000,1,11,train,0",
        "riding a bike,missing0000,0,10,train,0",
    ]
    (tmp_path / "train.csv").write_text(HEADER + "\n".join(rows) + "\n")
    return tmp_path


def kinetics_arguments(folder):
    return (
        folder / "train.csv", folder / "videos", folder / "train.txt",
        "--classes", folder / "classes.txt", "--num-classes", 2, "--workers", 2,
    )  # fmt: skip


def test_kinetics_lists_what_can_be_read_and_names_the_rest(kinetics, monkeypatch, capsys):
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert (kinetics / "train.txt").read_text() == (
        f"riding_a_bike/{RIDE}_000010_000020.mp4 0\nsinging/{SING}.mp4 1\n"
    )
    assert (kinetics / "classes.txt").read_text() == "riding a bike\nsinging\n"
    left = dict(
        line.split("\t") for line in (kinetics / "train.left_out.txt").read_text().splitlines()
    )
    assert left["missing0000_000000_000010"] == "is missing"
    assert left["singing/emptyvideo0_000001_000011.mp4"] == "is empty (0 bytes)"
    assert left["singing/nonsense000_000001_000011.mkv"].startswith("cannot be decoded")
    assert len(left) == 3
    assert "2 of 5 videos; 1 are missing and 2 broken" in capsys.readouterr().out


def test_mmaction2_reads_the_list(kinetics, monkeypatch):
    from mmaction.datasets import VideoDataset

    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    data = VideoDataset(
        str(kinetics / "train.txt"), pipeline=[], data_prefix=dict(video=str(kinetics / "videos"))
    )
    assert [data.get_data_info(i)["label"] for i in range(len(data))] == [0, 1]
    assert all(Path(data.get_data_info(i)["filename"]).is_file() for i in range(len(data)))


def test_a_check_goes_on_where_it_stopped(kinetics, monkeypatch):
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    journal = kinetics / "train.checked.jsonl"
    whole = [line for line in journal.read_text().splitlines() if line]
    assert len(whole) == 4
    journal.write_text("\n".join(whole[:2]) + "\n" + whole[2][:20])
    done = {json.loads(line)["video"] for line in whole[:2]}
    asked = []
    original = checking.decode_all

    def note(folder, videos, workers):
        asked.extend(videos)
        return original(folder, videos, workers)

    monkeypatch.setattr(checking, "decode_all", note)
    before = (kinetics / "train.txt").read_text()
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert (kinetics / "train.txt").read_text() == before
    assert not done & set(asked)
    assert len(asked) == 2


def test_a_video_that_has_changed_is_decoded_again(tmp_path):
    journal, video = tmp_path / "journal", tmp_path / "a.mp4"
    video.touch()
    assert check_videos(tmp_path, ["a.mp4"], journal, 1) == {"a.mp4": "is empty (0 bytes)"}
    write_video(video)
    assert check_videos(tmp_path, ["a.mp4"], journal, 1) == {"a.mp4": None}


def test_what_a_former_way_of_looking_found_good_is_decoded_again(tmp_path):
    journal, video = tmp_path / "journal", tmp_path / "a.mp4"
    video.write_bytes(b"no video")
    found = video.stat()
    entry = dict(video="a.mp4", state=[found.st_size, found.st_mtime_ns], fault=None)
    lines = [json.dumps(entry), "5", "{}", '{"video"', "\0\0"]
    journal.write_bytes("\n".join(lines).encode() + b"\xff\n")
    assert check_videos(tmp_path, ["a.mp4"], journal, 1)["a.mp4"].startswith("cannot be decoded")


def crash_on_b(file):
    if file.endswith("b.mp4"):
        os._exit(11)


def test_a_video_that_crashes_the_decoder_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "fault_of", crash_on_b)
    faults = check_videos(tmp_path, ["a.mp4", "b.mp4", "c.mp4"], tmp_path / "journal", 2)
    assert faults == {"a.mp4": None, "b.mp4": "crashes the decoder", "c.mp4": None}


def test_a_csv_as_windows_saves_it_reads_alike_and_a_repeated_line_counts_once(
    kinetics, monkeypatch, capsys
):
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    before = (kinetics / "train.txt").read_text()
    text = (kinetics / "train.csv").read_text()
    text += text.splitlines()[1] + "\n"
    (kinetics / "train.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    (kinetics / "classes.txt").write_bytes("riding a bike\r\nsinging\r\n".encode("utf-8-sig"))
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert (kinetics / "train.txt").read_text() == before
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.endswith("train.left_out.txt; 1 lines of the source repeat another")


def test_no_video_is_called_readable_that_nobody_decoded(kinetics, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics)[:-1], -1)
    assert "'-1' is no number from 1 on" in capsys.readouterr().err
    monkeypatch.setattr(annotation_files, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="decord, which decodes the videos, is not installed"):
        run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert not (kinetics / "train.txt").exists()


def test_a_path_that_cannot_be_listed_is_named_before_hours_of_decoding(kinetics, monkeypatch):
    (kinetics / "videos" / "singing").rename(kinetics / "videos" / "sing ing")
    monkeypatch.setattr(annotation_files, "check_videos", None)
    with pytest.raises(SystemExit, match="holds the delimiter"):
        run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))


def test_classes_are_labelled_in_the_order_of_their_file(kinetics, monkeypatch):
    (kinetics / "classes.txt").write_text("singing\nRiding_a_bike\n")
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics), "--no-decode")
    labels = [line.split()[1] for line in (kinetics / "train.txt").read_text().splitlines()]
    assert labels == ["1", "0", "0", "0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train.csv").write_text("a,b\n1,2\n"), "has no label, youtube_id"),
        (lambda f: (f / "classes.txt").write_text("singing\n"), "names 1 classes, wanted 2"),
        (lambda f: (f / "classes.txt").write_text("a\nb\n"), "class 'riding a bike', which is not"),
        (lambda f: (f / "videos").rename(f / "moved"), "there is no folder"),
        (
            lambda f: (f / "train.csv").write_text(HEADER + "singing,x,0,1\nriding a bike,y,0,1\n"),
            "none of the 2 videos is in",
        ),
        (
            lambda f: (f / "videos" / "singing").rename(f / "videos" / "sing ing"),
            "holds the delimiter ' ': rename the folders, or give --delimiter tab",
        ),
        (
            lambda f: (f / "train.csv").write_text(HEADER + "singing,x,5,15\nriding a bike,y\n"),
            r"has the times \['', ''\] for the video 'y', wanted seconds",
        ),
        (
            lambda f: (f / "train.csv").write_text(
                HEADER + "singing,x,5,15\nriding a bike,y,inf,1\n"
            ),
            r"has the times \['inf', '1'\] for the video 'y', wanted seconds",
        ),
        (
            lambda f: (f / "train.csv").write_text(HEADER + "singing,x,5,15\n,y,0,1\n"),
            "train.csv, line 3 has no label",
        ),
        (lambda f: (f / "classes.txt").write_text("singing\nSinging\n"), "'singing' twice"),
        (
            lambda f: (f / "train.csv").write_bytes(HEADER.encode() + b"caf\xe9,x,5,15\n"),
            "train.csv is no text in UTF-8: invalid continuation byte; save it as such",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_named(kinetics, monkeypatch, change, message):
    change(kinetics)
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert not (kinetics / "train.txt").exists()


def test_names_that_a_list_cannot_hold_are_left_out_and_named(kinetics, monkeypatch):
    odd = os.fsencode(kinetics / "videos") + b"/cl\xe4p"
    try:
        os.rename(kinetics / "videos" / "riding_a_bike", odd)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert (kinetics / "train.txt").read_text() == f"singing/{SING}.mp4 1\n"
    left = (kinetics / "train.left_out.txt").read_text()
    assert f"'cl\\udce4p/{RIDE}_000010_000020.mp4'\thas a name that is no UTF-8" in left


def test_a_list_of_no_video_is_not_written(kinetics, monkeypatch):
    for file in (kinetics / "videos").rglob("*.mp4"):
        file.write_bytes(b"")
    with pytest.raises(SystemExit, match=f"none of the 5 videos can be listed .*{RIDE}"):
        run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert not (kinetics / "train.txt").exists()


def test_two_labels_of_one_video_are_told(kinetics, monkeypatch, capsys):
    with (kinetics / "train.csv").open("a") as file:
        file.write(f"riding a bike,{SING},5,15,train,0\n")
    run(monkeypatch, "kinetics400.py", *kinetics_arguments(kinetics))
    assert f"1 videos have several labels, as singing/{SING}.mp4" in capsys.readouterr().out


def test_a_category_whose_label_is_no_number_is_named(tmp_path, monkeypatch):
    (tmp_path / "yawning").mkdir()
    (tmp_path / "t.csv").write_text("yawning/a.mp4,yawning,3,0\n")
    (tmp_path / "c.txt").write_text("yawning,²\n")
    with pytest.raises(SystemExit, match=r"c.txt has lines that are not a category"):
        run(
            monkeypatch, "moments_in_time.py", tmp_path / "t.csv", tmp_path, tmp_path / "o.txt",
            "--categories", tmp_path / "c.txt", "--num-classes", 1,
        )  # fmt: skip


@pytest.fixture
def listed(tmp_path):
    """Three classes of Kinetics-400 with four videos."""
    (tmp_path / "classes.txt").write_text("archery\nbowling\ncurling\n")
    (tmp_path / "kinetics.txt").write_text(
        "archery/aaaaaaaaaaa_000001_000011.mp4 0\nbowling/bbbbb_b-bbb_000001_000011.mp4 1\n"
        "curling/ccccccccccc_000001_000011.mp4 2\ncurling/ddddddddddd.mp4 2\n"
    )
    (tmp_path / "names.txt").write_text("Curling\narchery\n")
    (tmp_path / "ids.txt").write_text("ccccccccccc\nbbbbb_b-bbb\neeeeeeeeeee\n")
    return tmp_path


MINI = {
    "names": "archery/aaaaaaaaaaa_000001_000011.mp4 1\n"
    "curling/ccccccccccc_000001_000011.mp4 0\ncurling/ddddddddddd.mp4 0\n",
    "ids": "bowling/bbbbb_b-bbb_000001_000011.mp4 0\ncurling/ccccccccccc_000001_000011.mp4 1\n",
    "names ids": "curling/ccccccccccc_000001_000011.mp4 0\n",
}


@pytest.mark.parametrize("by", MINI)
def test_mini_kinetics_is_the_part_with_these_names_and_ids(listed, monkeypatch, by):
    options = [part for name in by.split() for part in (f"--{name}", listed / f"{name}.txt")]
    run(
        monkeypatch, "mini_kinetics200.py", listed / "kinetics.txt", listed / "mini.txt",
        "--kinetics-classes", listed / "classes.txt", "--num-classes", 2, *options,
    )  # fmt: skip
    assert (listed / "mini.txt").read_text() == MINI[by]
    left = (listed / "mini.left_out.txt").read_text().split()
    assert ("eeeeeeeeeee" in left) == ("ids" in by)


@pytest.mark.parametrize(("delimiter", "written"), [
    ("tab", "\t"), ("\\t", "\t"), (",", ","), (";", ";"), (" ", " "),
])  # fmt: skip
def test_lists_that_were_written_with_any_delimiter_are_read(
    kinetics, monkeypatch, delimiter, written
):
    arguments = (*kinetics_arguments(kinetics), "--no-decode", "--delimiter", delimiter)
    run(monkeypatch, "kinetics400.py", *arguments)
    names = kinetics / "classes.txt"
    run(
        monkeypatch, "mini_kinetics200.py", kinetics / "train.txt", kinetics / "mini.txt",
        "--kinetics-classes", names, "--names", names, "--num-classes", 2,
    )  # fmt: skip
    first = f"riding_a_bike/{RIDE}_000010_000020.mp4"
    assert (kinetics / "train.txt").read_text().splitlines()[0] == f"{first}{written}0"
    assert (kinetics / "mini.txt").read_text().splitlines()[0] == f"{first} 0"


def test_mini_kinetics_refuses_another_number_of_classes_and_unknown_ones(listed, monkeypatch):
    arguments = (
        "mini_kinetics200.py", listed / "kinetics.txt", listed / "mini.txt",
        "--kinetics-classes", listed / "classes.txt", "--names", listed / "names.txt",
    )  # fmt: skip
    with pytest.raises(SystemExit, match="names.txt names 2 classes, wanted 200"):
        run(monkeypatch, *arguments)
    (listed / "names.txt").write_text("archery\ndancing\n")
    with pytest.raises(SystemExit, match="Kinetics-400 has no class dancing"):
        run(monkeypatch, *arguments, "--num-classes", 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ids.txt", "eeeeeeeeeee\n"), "none of the 1 YouTube ids is in .*kinetics.txt"),
        (("kinetics.txt", f"a.mp4 {'9' * 5000}\n"), "wanted a path and its label"),
        (("kinetics.txt", "a b.mp4\n"), "has the line 'a b.mp4', wanted a path and its label"),
        (("kinetics.txt", "ccccccccccc.mp4 7\n"), "has the label 7, but there are names for 3"),
    ],
)
def test_mini_kinetics_names_the_list_that_does_not_fit(listed, monkeypatch, change, message):
    (listed / change[0]).write_text(change[1])
    with pytest.raises(SystemExit, match=message):
        run(
            monkeypatch, "mini_kinetics200.py", listed / "kinetics.txt", listed / "mini.txt",
            "--kinetics-classes", listed / "classes.txt", "--ids", listed / "ids.txt",
        )  # fmt: skip


def test_ids_may_come_as_names_of_clips(listed, monkeypatch):
    (listed / "ids.txt").write_text("bbbbb_b-bbb_000001_000011\r\nccccccccccc.mp4\r\n")
    run(
        monkeypatch, "mini_kinetics200.py", listed / "kinetics.txt", listed / "mini.txt",
        "--kinetics-classes", listed / "classes.txt", "--num-classes", 2,
        "--ids", listed / "ids.txt",
    )  # fmt: skip
    assert (listed / "mini.txt").read_text() == MINI["ids"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("x/--sing_in-1_000005_000015.mp4", SING), (f"{RIDE}.mp4", RIDE), ("short.mp4", "short")],
)
def test_youtube_ids_may_hold_underscores(path, name):
    assert youtube_id(path) == name


def test_moments_takes_labels_from_its_official_files(tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "videos" / "adult+female+singing" / "a.mp4")
    (tmp_path / "videos" / "yawning").mkdir()
    (tmp_path / "videos" / "yawning" / "b.mp4").touch()
    (tmp_path / "moments_categories.txt").write_text("yawning,0\nadult+female+singing,1\n")
    (tmp_path / "trainingSet.csv").write_text(
        "adult+female+singing/a.mp4,adult+female+singing,4,1\nyawning/b.mp4,yawning,3,0\n"
        "yawning/c.mp4,yawning,3,0\n"
    )
    arguments = (
        "moments_in_time.py", tmp_path / "trainingSet.csv", tmp_path / "videos",
        tmp_path / "train.txt", "--categories", tmp_path / "moments_categories.txt",
    )  # fmt: skip
    run(monkeypatch, *arguments, "--num-classes", 2, "--workers", 1)
    assert (tmp_path / "train.txt").read_text() == "adult+female+singing/a.mp4 1\n"
    assert (tmp_path / "train.left_out.txt").read_text() == (
        "yawning/b.mp4\tis empty (0 bytes)\nyawning/c.mp4\tis missing\n"
    )
    with pytest.raises(SystemExit, match="does not have the labels 0 to 338, once each"):
        run(monkeypatch, *arguments)


@pytest.mark.parametrize("tool", sorted(path.name for path in TOOLS.glob("*.py")))
def test_every_tool_tells_how_it_is_used(monkeypatch, capsys, tool):
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, tool, "--help")
    assert f"python tools/data/{tool}" in capsys.readouterr().out
