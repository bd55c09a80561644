"""Files that tables are made of, wherever they lie."""

import json

import pytest
from boards import (
    result,
    study_file,
)

from vared_mm.report.leaderboard_inputs import collect
from vared_mm.report.result import ResultError, write_result


def test_files_in_folders_that_are_no_results_are_left_out_with_a_word(tmp_path):
    write_result(tmp_path / "good", result("x"))
    whole = (tmp_path / "good" / "result.json").read_text()
    others = {
        "foreign": '{"metrics": {}}', "cut": whole[:90], "empty": "", "list": "[1]",
        "odd": whole.replace('"acc/clip1": 0.5', '"acc/clip1": "high"'), "bytes": "\udcff",
        "no cost": json.dumps({**json.loads(whole), "cost": []}),
        "no data": json.dumps({**json.loads(whole), "data": [1]}),
        "nan": whole.replace('"dense_gmacs": 55.2', '"dense_gmacs": NaN'),
    }  # fmt: skip
    for name, text in others.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_bytes(text.encode(errors="surrogateescape"))
    found = collect([tmp_path])
    assert [r.name for r in found.results.values()] == ["x"]
    assert len(found.left) == len(others)
    for name in others:
        assert any(f"{name}/result.json" in line for line in found.left)
        with pytest.raises(ResultError, match=f"{name}/result.json"):
            collect([tmp_path / "good", tmp_path / name / "result.json"])


@pytest.mark.parametrize(("change", "field"), [
    (dict(mean={"time": {"cc": 1}}), "mean.time.rmse"), (dict(layers=[{}]), "layers.0.name"),
    (dict(config=None), "config"),
])  # fmt: skip
def test_a_damaged_study_is_refused_by_its_field(tmp_path, change, field):
    study_file(tmp_path / "a", "i3d_k400", 0.9)
    file = tmp_path / "a" / "redundancy.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ResultError, match=f"redundancy.json is damaged: {field}: .* again"):
        collect([file])


def test_files_folders_and_folders_of_folders_are_read_once(tmp_path):
    path = write_result(tmp_path / "a" / "b", result("one"))
    write_result(tmp_path / "a" / "c", result("two"))
    study_file(tmp_path / "d", "i3d_k400", 0.9)
    found = collect([path, path.parent, tmp_path])
    assert sorted(r.name for r in found.results.values()) == ["one", "two"]
    assert [s.name for s in found.studies.values()] == ["i3d_k400"]


def test_results_behind_a_link_are_found_and_one_that_leads_back_up_ends(tmp_path):
    write_result(tmp_path / "elsewhere" / "a", result("one"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "results" / "loop").symlink_to(tmp_path / "results")
    assert [r.name for r in collect([tmp_path / "results"]).results.values()] == ["one"]


def test_nothing_found_and_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(
        ResultError, match=r"holds no result.json and no redundancy.json; vared-mm ev"
    ):
        collect([tmp_path])
    with pytest.raises(ResultError, match="nowhere is not there"):
        collect(["nowhere"])
    (tmp_path / "result.json").write_text('{"metrics": {}}')
    with pytest.raises(ResultError, match="is no result: wanted format='vared_mm result'"):
        collect([tmp_path])
