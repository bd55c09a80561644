"""The data set of key frames: which they are, their boxes, and what is missing or damaged."""

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope
from two_videos import two_videos

from vared_mm.datasets.key_frame_clips import key_frame_pipelines
from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.motion_tubes import write_frames
from vared_mm.datasets.tube_annotations import write_tubes
from vared_mm.datasets.video_lists import AnnotationError


def frames_of(count, size=(60, 80)):
    """Frame n is all of grey 40·n."""
    return np.stack([np.full((*size, 3), 40 * n, np.uint8) for n in range(1, count + 1)])


@pytest.fixture
def folder(tmp_path):
    init_default_scope("mmaction")
    annotations = two_videos()
    write_tubes(tmp_path / "JHMDB-GT.pkl", annotations)
    for video, count in annotations.nframes.items():
        write_frames(tmp_path / "Frames" / video, frames_of(count))
    return tmp_path


def dataset(folder, **settings):
    settings = dict(ann_file="JHMDB-GT.pkl", subset="train") | settings
    return DATASETS.build(dict(type="JHMDBDataset", data_root=str(folder), **settings))


def test_training_has_the_frames_with_a_box_and_test_mode_all(folder):
    train = dataset(folder)
    assert [train.get_data_info(i)["frame"] for i in range(len(train))] == [1, 2, 4]
    test = dataset(folder, subset="test", split=2, test_mode=True)
    assert [test.get_data_info(i)["frame"] for i in range(len(test))] == [1, 2, 3, 4, 5]
    assert test.get_data_info(2)["gt_bboxes"].shape == (0, 4)
    assert train.metainfo["classes"] == ("run", "walk")


def test_boxes_are_shares_of_the_frame_cut_at_its_edges(folder):
    info = dataset(folder).get_data_info(2)
    np.testing.assert_allclose(
        info["gt_bboxes"], [(0.5, 1 / 6, 0.75, 0.5), (0, 0, 0.4, 1)], atol=1e-6
    )
    assert info["gt_labels"].tolist() == [0, 1]
    assert info["truth"]["tubes"].tolist() == [0, 1]


def test_every_nth_key_frame_is_taken(folder):
    test = dataset(folder, subset="test", split=2, test_mode=True, every=2)
    assert [test.get_data_info(i)["frame"] for i in range(len(test))] == [1, 3, 5]


def grey(packed):
    """The frame numbers that the greys of a packed clip (1, C, T, H, W) stand for."""
    return (packed["inputs"][0, 0, :, 0, 0].numpy() / 40).round().astype(int).tolist()


def test_a_clip_is_around_its_key_frame_and_repeats_the_ends(folder):
    _, pipeline = key_frame_pipelines(clip_len=4, size=32)
    test = dataset(folder, subset="test", split=2, test_mode=True, pipeline=pipeline)
    assert [grey(test[i]) for i in range(5)] == [
        [1, 1, 1, 2],
        [1, 1, 2, 3],
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 5],
    ]
    packed = test[3]
    assert packed["inputs"].shape == (1, 3, 4, 32, 32)
    sample = packed["data_samples"]
    wanted = [(16, 32 / 6, 24, 16), (0, 0, 12.8, 32)]
    np.testing.assert_allclose(sample.gt_instances.bboxes, wanted, rtol=1e-5)
    assert sample.gt_instances.labels.tolist() == [0, 1]
    assert (sample.video, sample.frame, sample.original_shape) == ("walk/a", 4, (60, 80))


def test_video_files_give_the_same_clips_as_frames(folder):
    _, pipeline = key_frame_pipelines(clip_len=4, size=32, video=True)
    for name, count in (("walk/a", 5), ("run/b", 2)):
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / "videos" / f"{name}.mp4", frames_of(count))
    test = dataset(
        folder, subset="test", split=2, test_mode=True, pipeline=pipeline,
        data_prefix=dict(video="videos"),
    )  # fmt: skip
    assert grey(test[4]) == [3, 4, 5, 5]
    np.testing.assert_allclose(test[3]["data_samples"].gt_instances.bboxes[0], (16, 32 / 6, 24, 16))


def test_a_training_refuses_decoders_that_leave_boxes_in_shares(folder):
    pipeline = [dict(type="mmaction.OpenCVDecode")]
    with pytest.raises(ValueError, match="OpenCVDecode leaves boxes in shares of the frame"):
        dataset(folder, pipeline=pipeline)
    assert len(dataset(folder, subset="test", split=2, test_mode=True, pipeline=pipeline)) == 5


def test_a_middle_crop_tells_where_it_is_in_the_frame(folder):
    _, pipeline = key_frame_pipelines(clip_len=4, size=32)
    pipeline.insert(-2, dict(type="CenterCrop", crop_size=(16, 32)))
    test = dataset(folder, subset="test", split=2, test_mode=True, pipeline=pipeline)
    told = test[0]["data_samples"].metainfo["crop_quadruple"]
    assert told.tolist() == [0.25, 0, 0.5, 1]


def test_a_frame_without_boxes_goes_through_training(folder):
    train, _ = key_frame_pipelines(clip_len=4, size=32)
    whole = dataset(folder, subset="test", split=2, test_mode=True, pipeline=train)
    for index in (0, 2):
        truth = whole[index]["data_samples"].gt_instances
        assert truth.bboxes.shape == (len(truth.labels), 4)


def test_missing_frames_are_told_before_training_starts(folder):
    (folder / "Frames/walk/a/00003.png").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 1 videos .*\n.*a lacks 1 of 5 .*00003.png"):
        dataset(folder)
    with pytest.raises(AnnotationError, match=r"there is no folder .*nowhere"):
        dataset(folder, data_prefix=dict(img="nowhere"))
    with pytest.raises(AnnotationError, match=r"there is no .*videos.walk.a.mp4"):
        dataset(folder, data_prefix=dict(video="videos"))


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_frame_is_told_by_its_place(folder, content):
    train, _ = key_frame_pipelines(clip_len=1, size=32)
    (folder / "Frames/walk/a/00002.png").write_bytes(content)
    whole = dataset(folder, pipeline=train)
    with pytest.raises(AnnotationError, match=r"around frame 2 of .*Frames.walk.a cannot be made"):
        whole[1]


def test_a_damaged_video_is_told_by_name(folder):
    _, pipeline = key_frame_pipelines(clip_len=1, size=32, video=True)
    (folder / "videos/walk").mkdir(parents=True)
    (folder / "videos/walk/a.mp4").write_text("no video")
    whole = dataset(folder, pipeline=pipeline, data_prefix=dict(video="videos"))
    with pytest.raises(AnnotationError, match=r"frame 1 of .*walk.a.mp4 cannot be made"):
        whole[0]


def test_a_split_without_any_box_to_train_on_is_refused(folder):
    empty = two_videos(gttubes={"walk/a": {}, "run/b": {}})
    write_tubes(folder / "JHMDB-GT.pkl", empty)
    with pytest.raises(AnnotationError, match="for train: of the 1 videos of split 1 none has a"):
        dataset(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(subset="val"), "subset is 'val'; wanted 'train' or 'test'"),
        (dict(split=3), "has 2 splits, asked was 3"),
        (dict(every=0), "every=0 has to be at least 1"),
        (dict(data_prefix=dict(frames="x")), r"wanted dict\(img=FOLDER\)"),
    ],
)
def test_a_data_set_that_cannot_be_is_refused(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        dataset(folder, **settings)
