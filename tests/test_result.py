"""The record of an evaluated model is read as it was written, or refused with a reason."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from vared_mm.report.result import (
    Data,
    Result,
    ResultError,
    Samples,
    read_result,
    read_samples,
    write_result,
    write_samples,
)

SPREAD = {"avg": 1.0, "min": 1.0, "max": 1.0}
RESULT = Result(
    name="i3d",
    config="configs/i3d.py",
    options={"model.backbone.width": 0.5},
    checkpoint="epoch_1.pth",
    commit=None,
    created="2026-01-02T03:04:05+00:00",
    task="recognition",
    data=Data("VideoDataset", "val.txt", 2, ("up", "down"), "abc"),
    device="a processor",
    threads=2,
    packages={"torch": "2.13.0"},
    parameters=12,
    metrics={"acc/top1": 0.5},
    cost={
        "dense_gmacs": 1.0,
        "paper_gmacs": SPREAD,
        "full_gmacs": SPREAD,
        "share": SPREAD,
        "layers": [],
    },
    speed=None,
)
SAMPLES = Samples(
    file=np.array(["b.mp4", "clips/ä.mp4"]),
    label=np.array([0, -1]),
    predicted=np.array([1, -1]),
    correct=np.array([0.0, np.nan]),
    share=np.array([0.5, 1.0]),
    paper_gmacs=np.array([0.25, 0.5]),
    full_gmacs=np.array([0.3, 0.6]),
    layer_names=np.array(["a", "b", "c"]),
    layer_dense=np.array([[1.0, 2, 3], [4, 5, 6]]),
    layer_share=np.array([[0.5, 0.5, 1], [1, 1, 1]]),
    loss=np.array([2.5, np.nan]),
    policy=np.array([[1, 0], [0, -1]]),
    policy_answers=np.array([[0.5, 0.0], [0.5, 0.25]]),
    gate_names=np.array(["a", "a"]),
    gate_answers=np.array([[0.5, 0.0], [0.5, 0.25]]),
    gate_counts=np.array([[1.5, 1.5], [0.5, 0.5]]),
)


def save(path, arrays):
    """np.savez cannot take an array that is called file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array)


def test_a_result_comes_back_as_it_was_from_file_and_folder(tmp_path):
    path = write_result(tmp_path / "new", RESULT)
    assert path == tmp_path / "new" / "result.json"
    assert read_result(path) == read_result(tmp_path / "new") == RESULT


def test_samples_come_back_as_they_were_without_pickle(tmp_path):
    path = write_samples(tmp_path, SAMPLES)
    write_result(tmp_path, RESULT)
    for place in (path, tmp_path, tmp_path / "result.json"):
        back = read_samples(place)
        for name, array in vars(SAMPLES).items():
            np.testing.assert_array_equal(getattr(back, name), array, err_msg=name)
    assert len(back) == 2


def test_samples_that_were_written_before_losses_and_policies_were_kept_are_read(tmp_path):
    path = write_samples(tmp_path, SAMPLES)
    later = {"loss", "policy", "policy_answers", "gate_names", "gate_answers", "gate_counts"}
    save(path, {k: v for k, v in dict(np.load(path)).items() if k not in later})
    old = read_samples(path)
    assert (old.loss, old.policies) == (None, None)
    np.testing.assert_array_equal(old.share, SAMPLES.share)
    write_samples(tmp_path, old)
    assert not later & set(np.load(path))


def test_a_result_that_was_written_before_choices_were_told_is_read(tmp_path):
    path = write_result(tmp_path, RESULT)
    content = json.loads(path.read_text())
    assert content.pop("choices") is None
    path.write_text(json.dumps(content))
    assert read_result(path) == RESULT


def test_a_metric_that_is_no_number_is_null_in_strict_json(tmp_path):
    path = write_result(tmp_path, replace(RESULT, metrics={"mIoU": float("nan"), "aAcc": 3.0}))
    assert "NaN" not in path.read_text()
    assert read_result(path).metrics == {"mIoU": None, "aAcc": 3.0}


def test_the_name_of_a_file_may_be_no_utf_8_and_what_is_not_known_is_none(tmp_path):
    data = replace(RESULT.data, file="clips/\udcff.txt")
    odd = replace(RESULT, config="\udcff.py", data=data, task=None, cost=None)
    assert read_result(write_result(tmp_path, odd)) == odd
    assert not odd.dynamic


def test_nothing_half_written_stays(tmp_path):
    write_result(tmp_path, RESULT)
    write_samples(tmp_path, SAMPLES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "samples.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "other"},
            r"result.json is no result: wanted format='vared_mm result', came 'o",
        ),
        ({"version": 2}, r"has version 2; this vared_mm reads version 1; run vared-mm evaluate ag"),
        ({"metrics": None, "cost": None}, r"is damaged: metrics: Field required; cost: Field requ"),
        ({"task": "poetry"}, r"task: Input should be 'recognition', .*; run vared-mm evaluate aga"),
        ({"data": {"name": "A"}}, r"data.file: .* data.samples: .* data.classes: .* and 1 more;"),
        ({"data": None}, r"data: Field required"),
        ({"threads": "2"}, r"threads: Input should be a valid integer"),
        ({"cost": {"share": {"avg": "half"}}}, r"cost.dense_gmacs: Field required"),
        ({"speed": {"static": {"median": 1}}}, r"speed.static.low: Field required"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, change, message):
    path = write_result(tmp_path, RESULT)
    content = json.loads(path.read_text())
    for name, value in change.items():
        content[name] = value
        if value is None:
            del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=message) as caught:
        read_result(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("[1]", "came no mapping"), ("{", "is no JSON")])
def test_what_is_no_mapping_or_no_json_is_refused(tmp_path, text, message):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ResultError, match=message):
        read_result(tmp_path)


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(ResultError, match=r"there is no .*samples.npz; wanted a folder that vared"):
        read_samples(tmp_path)


def test_samples_that_are_not_whole_are_refused(tmp_path):
    path = write_samples(tmp_path, SAMPLES)
    arrays = dict(np.load(path))
    for name in ("share", "layer_share"):
        save(path, {k: v for k, v in arrays.items() if k != name})
        with pytest.raises(ResultError, match=rf"samples.npz .*it lacks {name} of file, label"):
            read_samples(path)
    save(path, {**arrays, "share": np.zeros(3)})
    with pytest.raises(ResultError, match=r"share has shape \(3,\); wanted \(2,\), as there are 2"):
        read_samples(path)
    path.write_bytes(b"half a file")
    with pytest.raises(ResultError, match="holds no samples of a result"):
        read_samples(path)


def test_a_pickle_in_the_place_of_samples_is_never_run(tmp_path):
    arrays = {name: array for name, array in vars(SAMPLES).items() if array is not None}
    arrays["file"] = np.array([print, "b"], dtype=object)
    save(tmp_path / "samples.npz", arrays)
    with pytest.raises(ResultError, match="allow_pickle=False"):
        read_samples(tmp_path)
