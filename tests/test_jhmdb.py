"""Key frames, their clips and their boxes: what is read, augmented and refused."""

import pickle
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from vared_mm.datasets.jhmdb import JHMDBDataset
from vared_mm.datasets.key_frame_clips import (
    JitteredCrop,
    SampleAroundKeyFrame,
    cropped,
    key_frame_pipelines,
)
from vared_mm.datasets.motion_clips import write_video
from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes, write_frames
from vared_mm.datasets.tube_annotations import TubeAnnotations, read_tubes, write_tubes
from vared_mm.datasets.video_lists import AnnotationError

WALK = np.array([[1, 0, 0, 20, 40], [2, 4, 0, 24, 40], [4, -8, 0, 32, 60]], np.float32)
RUN = np.array([[4, 40, 10, 60, 30]], np.float32)


def two_videos(**changes):
    """Of 80 x 60 pixels: one with two actors and a frame without any, one with one."""
    whole = TubeAnnotations(
        labels=["run", "walk"],
        gttubes={"walk/a": {1: [WALK], 0: [RUN]}, "run/b": {0: [RUN - [3, 0, 0, 0, 0]]}},
        nframes={"walk/a": 5, "run/b": 2},
        train_videos=[["walk/a"], ["run/b"]],
        test_videos=[["run/b"], ["walk/a"]],
        resolution={"walk/a": (60, 80), "run/b": (60, 80)},
    )
    return replace(whole, **changes)


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
def test_boxes_stay_on_what_they_enclose_through_all_augmentation(folder, seed):
    from mmengine.dataset import Compose

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


def test_a_frame_without_boxes_goes_through_training(folder):
    train, _ = key_frame_pipelines(clip_len=4, size=32)
    whole = dataset(folder, subset="test", split=2, test_mode=True, pipeline=train)
    for index in (0, 2):
        truth = whole[index]["data_samples"].gt_instances
        assert truth.bboxes.shape == (len(truth.labels), 4)


FAULTS = {
    "a frame that is no number": (
        dict(gttubes={"walk/a": {1: [np.array([[np.nan, 0, 0, 9, 9]])]}, "run/b": {}}),
        "a tube has the frames .nan., wanted whole numbers",
    ),
    "a frame between two": (
        dict(gttubes={"walk/a": {1: [np.array([[1.5, 0, 0, 9, 9]])]}, "run/b": {}}),
        "a tube has the frames .1.5., wanted whole numbers",
    ),
    "a box without end": (
        dict(gttubes={"walk/a": {1: [np.array([[1, 0, 0, np.inf, 9]])]}, "run/b": {}}),
        "the box 0 0 inf 9 .* has no end",
    ),
    "a label twice": (dict(labels=["run", "walk", "run"]), "the label 'run' stands twice"),
    "a tube longer than the video": (
        dict(nframes={"walk/a": 3, "run/b": 2}, gttubes={"walk/a": {1: [WALK]}, "run/b": {}}),
        "walk/a: a tube has the frames 1 to 4 of a video of 3, whose first is 1",
    ),
    "frames from 0": (
        dict(gttubes={"walk/a": {1: [WALK - [1, 0, 0, 0, 0]]}, "run/b": {}}),
        "walk/a: a tube has the frames 0 to 3",
    ),
    "an inverted box": (
        dict(gttubes={"walk/a": {1: [WALK[:, [0, 3, 2, 1, 4]]]}, "run/b": {}}),
        r"the box 20 0 0 40 \(x1 y1 x2 y2\) of frame 1 is empty or inverted, in a frame of 80 x 60",
    ),
    "a box outside": (
        dict(gttubes={"walk/a": {1: [WALK + np.array([0, 90, 0, 90, 0])]}, "run/b": {}}),
        "the box 90 0 110 40 .* is outside the frame of 80 x 60 pixels",
    ),
    "boxes as parts of the frame": (
        dict(gttubes={"walk/a": {1: [WALK / [1, 80, 60, 80, 60]]}, "run/b": {}}),
        "all boxes lie within 1 pixel; wanted x1 y1 x2 y2 in pixels",
    ),
    "a box that is no number": (
        dict(gttubes={"walk/a": {1: [WALK * [1, np.nan, 1, 1, 1]]}, "run/b": {}}),
        "the box nan 0 20 40 .* is empty or inverted",
    ),
    "two boxes in a frame": (
        dict(gttubes={"walk/a": {1: [WALK[[0, 0]]]}, "run/b": {}}),
        "walk/a: a tube has two boxes in one frame",
    ),
    "a tube without boxes": (
        dict(gttubes={"walk/a": {1: [WALK[:0]]}, "run/b": {}}),
        r"a tube has the shape \(0, 5\); wanted rows of frame x1 y1 x2 y2",
    ),
    "an unknown label": (
        dict(labels=["run"]),
        "walk/a has the label 1; there are 1 labels",
    ),
    "a video nobody knows": (
        dict(train_videos=[["walk/c"]], test_videos=[]),
        "walk/c is in a split and not in gttubes, nframes, resolution",
    ),
}


OTHER_FORMS = {
    "labels by name": dict(gttubes={"walk/a": {"walk": [WALK]}, "run/b": {}}),
    "no labels at all": dict(gttubes={"walk/a": [WALK], "run/b": []}),
    "one side for both": dict(resolution={"walk/a": 60, "run/b": 60}),
    "labels as a mapping": dict(labels={"walk": 1, "run": 0}),
    "a label between two": dict(gttubes={"walk/a": {0.7: [WALK]}, "run/b": {}}),
    "a length as a float": dict(nframes={"walk/a": 5.5, "run/b": 2}),
    "a split that is one name": dict(train_videos=["walk/a"]),
    "lengths as text": dict(nframes={"walk/a": "5", "run/b": "2"}),
}


@pytest.mark.parametrize("changes", OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_a_pickle_of_another_form_is_named(tmp_path, changes):
    file = tmp_path / "JHMDB-GT.pkl"
    file.write_bytes(pickle.dumps(asdict(two_videos(**changes)), protocol=2))
    with pytest.raises(AnnotationError, match=r"JHMDB-GT.pkl does not hold what TubeAnnotations"):
        read_tubes(file)


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_annotations_that_cannot_be_are_refused_with_all_that_is_wrong(tmp_path, changes, message):
    file = tmp_path / "JHMDB-GT.pkl"
    file.write_bytes(pickle.dumps(asdict(two_videos(**changes)), protocol=2))
    with pytest.raises(AnnotationError, match=message) as caught:
        read_tubes(file)
    assert str(caught.value).startswith(f"{file} has 1 faults")
    with pytest.raises(AnnotationError, match=message):
        write_tubes(tmp_path / "new.pkl", two_videos(**changes))
    assert not (tmp_path / "new.pkl").exists()


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('run')",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"labels": Harmful()}))
    with pytest.raises(AnnotationError, match=r"a.pkl cannot be read: it asks for builtins.exec"):
        read_tubes(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", [2, 5])
def test_what_is_written_is_read(tmp_path, protocol):
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(asdict(two_videos()), protocol=protocol))
    np.testing.assert_array_equal(read_tubes(file).gttubes["walk/a"][1][0], WALK)


def test_a_file_of_python_2_is_read():
    # numpy of Python 2 wrote the bytes of an array as text, "\x00\x00\x80?" being 1.0 in float32.
    from io import BytesIO

    from vared_mm.datasets.tube_annotations import _Unpickler

    text = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS'\\x00\\x00\\x80?'\ntb."
    )
    array = _Unpickler(BytesIO(text), encoding="latin1").load()
    assert array.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: it is no whole pickle"),
        (b"K\x01K\x02a.", r"it is no whole pickle \(AttributeError\(\"'int' object"),
        (pickle.dumps([1, 2]), "has no labels, gttubes, nframes"),
        (pickle.dumps({"labels": []}), "has no gttubes, nframes"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, content, message):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        read_tubes(tmp_path / "a.pkl")
    with pytest.raises(
        AnnotationError, match=r"there is no annotation file .*b.pkl; .*JHMDB-GT.pkl"
    ):
        read_tubes(tmp_path / "b.pkl")


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


def test_a_video_shorter_than_its_annotations_is_told_by_name():
    with pytest.raises(ValueError, match="the key frame 9 of walk/a is not among its 8 frames"):
        SampleAroundKeyFrame(4).transform(dict(total_frames=8, frame=9, video="walk/a"))


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
