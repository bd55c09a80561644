"""A csv of labels and a folder of videos become small clips with MMAction2's lists."""

import json
import os

import decord
import numpy as np
import pytest

import vared_mm  # noqa: F401
from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.small_clips import SmallClipsConfig, make_small_clips, scaled_size
from vared_mm.datasets.video_lists import AnnotationError

SETTINGS = dict(split="fold", train=("0", "1"), val=("2",), frames=4, short_side=40)


@pytest.fixture
def source(tmp_path):
    """Five videos of 10 frames of 96 x 80, whose grey tells the frame: 20, 40, ..., 200."""
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    lines = ["file,label,fold"]
    for i, (label, fold) in enumerate([("b", 0), ("a", 1), ("b", 2), ("a", 2), ("c", 9)]):
        name = f"deep/v {i}.mp4"
        grey = np.arange(20, 201, 20, dtype=np.uint8)
        write_video(folder / name, np.broadcast_to(grey[:, None, None, None], (10, 80, 96, 3)))
        lines.append(f"{name},{label},{fold}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "labels.csv", folder, tmp_path / "out"


def test_the_lists_hold_the_rows_of_each_split_with_labels_in_the_order_of_the_names(source):
    said = make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    out = source[2]
    assert (out / "classes.txt").read_text() == "a\nb\n"
    assert (
        out / "train.txt"
    ).read_text() == "clips_4x40/deep-v_0.mp4 1\nclips_4x40/deep-v_1.mp4 0\n"
    assert (out / "val.txt").read_text() == "clips_4x40/deep-v_2.mp4 1\nclips_4x40/deep-v_3.mp4 0\n"
    assert said.endswith("2 clips to train on, 2 to validate, 2 classes")
    assert len(list((out / "clips_4x40").iterdir())) == 4


def test_classes_keep_the_order_that_they_had(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    (source[2] / "classes.txt").write_text("b\na\n")
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert (source[2] / "classes.txt").read_text() == "b\na\n"
    assert (source[2] / "val.txt").read_text().split()[1::2] == ["0", "1"]


def test_a_clip_has_frames_0_3_6_9_of_ten_and_the_short_side_asked_for(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    video = decord.VideoReader(str(source[2] / "clips_4x40" / "deep-v_0.mp4"))
    frames = np.stack([video[i].asnumpy() for i in range(len(video))])
    assert frames.shape == (4, 40, 50, 3)
    # Two times encoded: a grey may change by some steps.
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [20, 80, 140, 200], atol=8)


def test_sides_keep_their_ratio_and_leave_out_widths_that_decord_misreads():
    assert scaled_size(128, 172, short_side=64) == (86, 64)
    assert scaled_size(172, 128, short_side=64) == (64, 86)
    assert scaled_size(80, 96, short_side=40) == (50, 40)
    assert scaled_size(64, 64, short_side=8) == (10, 8)
    assert scaled_size(96, 64, short_side=12) == (14, 18)
    assert scaled_size(400, 8, short_side=4) == (10, 200)


def test_clips_that_are_there_are_not_made_again(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    kept = source[2] / "clips_4x40" / "deep-v_0.mp4"
    time = kept.stat().st_mtime_ns
    kept.write_bytes(b"mine")
    os.utime(kept, ns=(time, time))
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert kept.read_bytes() == b"mine"
    (source[1] / "deep" / "v 0.mp4").unlink()
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert kept.read_bytes() == b"mine"


def test_the_clip_of_a_video_that_was_exchanged_is_made_anew(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    write_video(source[1] / "deep" / "v 0.mp4", np.full((10, 80, 96, 3), 250, np.uint8))
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    video = decord.VideoReader(str(source[2] / "clips_4x40" / "deep-v_0.mp4"))
    assert video[0].asnumpy().mean() > 200


def test_a_video_of_the_same_time_and_another_size_is_another(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    video = source[1] / "deep" / "v 0.mp4"
    time = video.stat().st_mtime_ns
    write_video(video, np.full((20, 80, 96, 3), 250, np.uint8))
    os.utime(video, ns=(time, time))
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    clip = source[2] / "clips_4x40" / "deep-v_0.mp4"
    assert decord.VideoReader(str(clip))[0].asnumpy().mean() > 200
    # Of clips that were made without it, no size is known.
    (source[2] / "clips_4x40.json").unlink()
    clip.write_bytes(b"mine")
    os.utime(clip, ns=(time, time))
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert clip.read_bytes() == b"mine"


def test_it_is_said_how_many_clips_stay_whose_videos_are_not_there(source):
    told = make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert "not there" not in told
    for i in (0, 2):
        (source[1] / "deep" / f"v {i}.mp4").unlink()
    told = make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert told.endswith("2 classes; clips that stay and whose videos are not there: 2")


def test_sizes_of_videos_are_kept_also_where_another_is_broken(source):
    (source[1] / "deep" / "v 3.mp4").write_bytes(b"")
    with pytest.raises(AnnotationError):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    kept = source[2] / "clips_4x40.json"
    size = (source[1] / "deep" / "v 0.mp4").stat().st_size
    assert json.loads(kept.read_text())["deep-v_0.mp4"] == size
    kept.write_text("{")
    with pytest.raises(ValueError, match=r"clips_4x40\.json, which tells .* is damaged .*; remove"):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))


def test_clips_of_another_length_do_not_take_the_place_of_those_that_are_there(source):
    make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    make_small_clips(*source, SmallClipsConfig(**{**SETTINGS, "frames": 2}))
    listed = (source[2] / "train.txt").read_text().split()[0]
    assert len(decord.VideoReader(str(source[2] / listed))) == 2


def test_two_videos_that_would_be_one_clip_are_refused(source):
    labels = source[0]
    labels.write_text(labels.read_text() + "\ndeep/v 0.avi,a,0")
    with pytest.raises(AnnotationError, match=r"v 0.mp4 and deep/v 0.avi would both become .*mp4"):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(split="part"), "has no part; wanted .*; there are .*'fold'"),
        (dict(val=("7",)), "no row .* has \\['7'\\] as its 'fold'; there are .*'9'"),
    ],
)
def test_a_csv_without_the_column_or_the_split_is_refused(source, change, message):
    with pytest.raises(AnnotationError, match=message):
        make_small_clips(*source, SmallClipsConfig(**{**SETTINGS, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(val=("1",)), r"\['1'\] would be trained on and validated"),
        (dict(frames=0), "frames=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SmallClipsConfig(**{**SETTINGS, **change})


def test_all_broken_videos_are_named_at_once_and_the_others_are_made(source):
    (source[1] / "deep" / "v 1.mp4").write_bytes(b"")
    (source[1] / "deep" / "v 2.mp4").unlink()
    told = r"v 1\.mp4 is empty \(0 bytes\); .*v 2\.mp4 does not exist; take out of the csv"
    with pytest.raises(AnnotationError, match=told):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert len(list(source[2].glob("clips_*/*.mp4"))) == 2


def told(source, rows):
    source[0].write_text("file,label,fold\n" + "\n".join(rows))
    settings = SmallClipsConfig(**{**SETTINGS, "train": ("0",)})
    return make_small_clips(*source, settings).partition("classes")[2]


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (["deep/v 0.mp4,a ,0", "deep/v 1.mp4, a,2", "deep/v 2.mp4,,9"], ""),
        (["deep/v 0.mp4,a,0", "./deep/v 0.mp4,a,0", "deep/v 1.mp4,a,2"], ""),
        (["deep/v 0.mp4,a,0", "deep/v 1.mp4,b,2"], "no clip to train on of ['b']"),
        (
            ["deep/v 0.mp4,2,0", "deep/v 1.mp4,10,0", "deep/v 2.mp4,2,2", "deep/v 3.mp4,10,2"],
            "; the class '2' has the number 0",
        ),
        (["deep/v 0.mp4,01,0", "deep/v 1.mp4,0,0", "deep/v 2.mp4,0,2", "deep/v 3.mp4,01,2"], ""),
        (["deep/v 0.mp4,a b,0", "deep/v 1.mp4,A_b,0", "deep/v 2.mp4,a b,2"], "['A_b', 'a b'] are"),
    ],
)
def test_what_looks_like_a_slip_is_told_and_blanks_are_none(source, rows, note):
    found = told(source, rows)
    assert note in found
    assert bool(note) == bool(found)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["deep/v 0.mp4,a,0", "deep/v 1.mp4,,2"], r"labels.csv, line 3 has no label for deep/v 1"),
        (["deep/v 0.mp4,a,0", "deep/v 1.mp4,a,"], r"labels.csv, line 3 has no fold"),
        (
            ["deep/v 0.mp4,a,0", "deep/v 0.mp4,b,2"],
            r"lines 2 and 3 tell two things of deep/v 0.mp4: \['a', '0'\] and \['b', '2'\]",
        ),
        (
            ["deep/v 0.mp4,a,0", "link/../deep/v 0.mp4,a,2"],
            r"lines 2 and 3 tell two things of link/../deep/v 0.mp4: \['a', '0'\] and \['a', '2'\]",
        ),
        (["deep/v 0.mp4,a,0", "link/v 0.mp4,a,2"], "lines 2 and 3 tell two things of link/v 0"),
    ],
)
def test_rows_that_tell_nothing_or_two_things_are_named(source, rows, message):
    (source[1] / "link").symlink_to(source[1] / "deep")
    with pytest.raises(AnnotationError, match=message):
        told(source, rows)


def test_a_clip_that_cannot_be_written_leaves_nothing_behind(source, monkeypatch):
    monkeypatch.setattr("vared_mm.datasets.mp4.frames_in", lambda name: 1)
    with pytest.raises(OSError, match="disk full"):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert list((source[2] / "clips_4x40").iterdir()) == []


def test_whatever_the_videos_are_called_each_becomes_its_own_clip(source):
    greys = {f"{half}v{i}": 20 * i for i in range(1, 9) for half in ("", "half-")}
    for name, grey in greys.items():
        write_video(source[1] / f"{name}.mp4", np.full((4, 80, 96, 3), grey, np.uint8))
    told(source, [f"{name}.mp4,a,{2 * (name == 'v1')}" for name in greys])
    for name, grey in greys.items():
        clip = decord.VideoReader(str(source[2] / "clips_4x40" / f"{name}.mp4"))
        assert clip[0].asnumpy().mean() == pytest.approx(grey, abs=8)


def test_a_name_that_no_file_system_takes_is_told_before_the_work(source):
    with pytest.raises(AnnotationError, match=r"name of 304 bytes, .* take 255; give as videos"):
        told(source, [f"{'deep/' * 60}.mp4,a,0", "deep/v 0.mp4,a,2"])
    assert not source[2].exists()


@pytest.mark.parametrize("given", ["train.txt", "val.txt", "classes.txt"])
def test_lists_replace_neither_the_csv_nor_those_of_somebody_else(source, given):
    labels, videos, out = source
    out.mkdir()
    file = labels.rename(out / given)
    (out / "clips_2x40.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{given} would be replaced, which is given to be read"):
        make_small_clips(file, videos, out, SmallClipsConfig(**SETTINGS))
    file.rename(labels)
    (out / "clips_2x40.json").unlink()
    file.write_text("mine")
    with pytest.raises(AnnotationError, match=f"{given} would be replaced, and .* holds no clips"):
        make_small_clips(*source, SmallClipsConfig(**SETTINGS))
    assert [path.name for path in out.iterdir()] == [given]
    assert file.read_text() == "mine"
