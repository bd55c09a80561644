"""The pickles of J-HMDB: what is read, and what is refused by all its faults."""

import pickle
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
from two_videos import WALK, two_videos

from vared_mm.datasets.tube_annotations import _Unpickler, read_tubes, write_tubes
from vared_mm.datasets.video_lists import AnnotationError

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
