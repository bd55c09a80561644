"""The paper's tables with ours beside, and the free one, from results made by hand."""

import csv
import io
import sys
from dataclasses import replace

import pytest
from boards import (
    CHOICES,
    DATA,
    HOW,
    SPEED,
    STATIC,
    column,
    counts,
    inputs,
    result,
    study_file,
    texts,
)
from command_lines import tool_of

from vared_mm.report.leaderboard import free_board, paper_board
from vared_mm.report.leaderboard_inputs import collect
from vared_mm.report.paper_tables import TABLES
from vared_mm.report.result import write_result
from vared_mm.report.same_model import MixedDataError


def test_ours_stands_beside_the_paper_s_figure_and_the_difference():
    speed = {
        "static": {"median": 90.0, "low": 80.0, "high": 99.0},
        "dynamic": {"median": 110.0, "low": 100.0, "high": 120.0},
        "conditions": {"device": "a GPU", "threads": 4, "batch": 8, "engine": "plain"},
    }
    board = paper_board(TABLES[2], inputs(result(f"vared-{STATIC}", 0.612, 41.4, speed=speed)))
    row = texts(board, "R(2+1)D, dynamic")
    # The paper: 40.4 GFLOPs, 108.7 clips per second, 60.6, 70.0; video-1 was not evaluated.
    assert row == {
        "row": "R(2+1)D, dynamic", "results": "1",
        "gmacs": "41.4", "gmacs paper": "40.4", "gmacs diff": "+1",
        "speed": "110.0", "speed paper": "108.7", "speed diff": "+1.3",
        "clip-1": "61.2", "clip-1 paper": "60.6", "clip-1 diff": "+0.6",
        "video-1": "–", "video-1 paper": "70", "video-1 diff": "–",
    }  # fmt: skip
    assert "Speed of ours: a GPU, 4 threads, batch 8, plain engine." in board.notes


def test_a_static_row_has_the_static_speed():
    speed = {"static": {"median": 90.0, "low": 80.0, "high": 99.0}}
    speed["conditions"] = {"device": "a GPU", "threads": 4, "batch": 8, "engine": "plain"}
    board = paper_board(TABLES[2], inputs(result(STATIC, dynamic=False, speed=speed)))
    assert texts(board, "R(2+1)D")["speed"] == "90.0"


def test_a_pruned_network_stands_with_its_cost_by_formula_and_the_time_of_the_dense_one():
    name, speed = f"pruned-{STATIC}", {"static": {"median": 90.0, "low": 80.0, "high": 99.0}}
    speed["conditions"] = {"device": "a GPU", "threads": 4, "batch": 8, "engine": "plain"}
    pruned = result(name, 0.58, 40.2, dynamic=False, speed=speed)
    pruned = replace(pruned, cost={**pruned.cost, "zero_gmacs": 14.9})
    board = paper_board(TABLES[7], inputs(pruned))
    row = texts(board, "weight-level, 16 frames")
    assert (row["gmacs"], row["gmacs paper"], row["clip-1 diff"]) == ("40.2", "40.3", "+0.3")
    for one in (board, free_board(inputs(pruned))):
        assert any(f"{name} is pruned: its GMACs by formula leave out" in n for n in one.notes)
    assert not any("pruned" in note for note in free_board(inputs(result(STATIC))).notes)


def test_missing_rows_are_said():
    board = paper_board(TABLES[2], inputs(result(STATIC)))
    assert column(board, "results") == ["1", *["not evaluated"] * 9]
    pruning = paper_board(TABLES[7], inputs())
    assert texts(pruning, "CGNet, 8 frames")["gmacs paper"] == "23.8"


def test_seeds_are_mean_and_standard_deviation_and_their_count():
    several = inputs(result(STATIC, 0.50), result(STATIC, 0.52), result(STATIC, 0.54))
    row = texts(paper_board(TABLES[2], several), "R(2+1)D")
    # 50, 52, 54: mean 52, and (4 + 0 + 4) / 2 = 4, of which the root is 2.
    assert (row["results"], row["clip-1"], row["clip-1 diff"]) == ("3", "52.0 ± 2.0", "-5.5")
    free = free_board(several)
    assert free.numbers[["name", "results"]].to_numpy().tolist() == [[STATIC, 3]]


def test_a_mean_of_some_results_tells_how_many_they_are(tmp_path, monkeypatch, capsys):
    speeds = {"static": {"median": 90.0, "low": 80.0, "high": 99.0}}
    speeds["conditions"] = {"device": "a GPU", "threads": 4, "batch": 8, "engine": "plain"}
    seeds = [
        result(STATIC, 0.5, dynamic=False, speed=speeds), result(STATIC, 0.7, dynamic=False),
        result(STATIC, None, dynamic=False, choices=CHOICES),
    ]  # fmt: skip
    board = free_board(inputs(*seeds))
    row = texts(board, STATIC)
    told = {name: row[name] for name in ("results", "acc/clip1", "policies", "static/s", "params")}
    # 0.5 and 0.7 are 0.1 from their mean, so the deviation of two is 0.1·√2.
    assert told == {
        "results": "3", "acc/clip1": "0.6 ± 0.1414 (2 of 3)", "policies": "13 (1 of 3)",
        "static/s": "90.0 (80.0 to 99.0) (1 of 3)", "params": "23.9 ± 0",
    }  # fmt: skip
    assert board.filtered("`acc/clip1` == 0.6 and `acc/clip1 results` == 2").texts.size
    assert "params results" not in board.numbers
    paper = texts(paper_board(TABLES[2], inputs(*seeds)), "R(2+1)D")
    assert (paper["clip-1"], paper["speed"]) == ("60.0 ± 14.1 (2 of 3)", "90.0 (1 of 3)")
    for seed, one in enumerate(seeds):
        write_result(tmp_path / str(seed), one)
    run(monkeypatch, tmp_path, "--format", "csv")
    (cells,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (cells["acc/clip1"], cells["acc/clip1 results"], cells["results"]) == ("0.6", "2", "3")


def test_seeds_of_different_data_are_refused_with_the_files():
    other = replace(DATA, samples=99, fingerprint="99")
    mixed = inputs(result(STATIC), result(STATIC, data=other), result("elsewhere", data=other))
    with pytest.raises(MixedDataError, match=r"2 different data sets .* in Table 2") as caught:
        paper_board(TABLES[2], mixed)
    assert "VideoDataset val.txt, 100 samples [abcdef01]: 0/result.json\n" in str(caught.value)
    assert "99 samples [99]: 1/result.json\n" in str(caught.value)
    board = paper_board(TABLES[2], mixed, True)
    assert column(board, "results")[:2] == ["1", "1"]
    assert column(board, "row")[:2] == [
        "R(2+1)D (VideoDataset val.txt, 100 samples [abcdef01])",
        "R(2+1)D (VideoDataset val.txt, 99 samples [99])",
    ]
    twins = inputs(result(STATIC), result(f"vared-{STATIC}", data=other))
    with pytest.raises(MixedDataError, match="in Table 2"):
        paper_board(TABLES[2], twins)


def test_data_are_the_same_wherever_they_lie_and_however_their_place_is_spelt():
    there = replace(DATA, file="/mnt/data/val.txt")
    several = inputs(
        result(STATIC, 0.50), result(STATIC, 0.52, data=there), result("b", data=there)
    )
    row = texts(paper_board(TABLES[2], several), "R(2+1)D")
    assert (row["results"], row["clip-1"]) == ("2", "51.0 ± 1.4")
    free = free_board(several)
    assert free.numbers[["name", "results"]].to_numpy().tolist() == [[STATIC, 2], ["b", 1]]
    assert column(free, "data") == ["VideoDataset, 100"] * 2


def test_one_table_of_the_paper_may_be_of_two_data_sets():
    mini, k400 = (f"x3d_m_8xb12-16x5x1-120e_{d}-rgb" for d in ("mini-kinetics200", "kinetics400"))
    both = inputs(result(mini), result(k400, data=replace(DATA, fingerprint="99")))
    assert column(paper_board(TABLES[13], both), "results").count("1") == 2


def test_a_free_table_of_different_data_is_refused_unless_asked_for():
    mixed = inputs(result("a"), result("b", data=replace(DATA, fingerprint="99")))
    with pytest.raises(
        MixedDataError, match=r"2 different data sets .* in one table(?s:.*)--mixed"
    ):
        free_board(mixed)
    assert len(free_board(mixed, mixed=True).texts) == 2


def test_the_free_table_tells_metrics_costs_and_options():
    changed = result("a", 0.25, options={"model.width": 0.5}, checkpoint="x/best.pth")
    row = texts(free_board(inputs(changed)), "a")
    assert row["options"] == "model.width=0.5"
    assert row["checkpoint"] == "best"
    assert row["data"] == "VideoDataset, 100"
    numbers = {k: row[k] for k in ("acc/clip1", "dense_gmacs", "full_gmacs_min", "params", "share")}
    assert numbers == {
        "acc/clip1": "0.25", "dense_gmacs": "55.2", "full_gmacs_min": "36", "params": "23.9",
        "share": "0.700",
    }  # fmt: skip
    assert "cost/share" not in row
    assert row["static/s"] == "–"


def test_the_free_table_tells_of_choices_what_any_result_does():
    worth = dict(mean=0.02, error=0.01)
    judged = dict(own=0.993, dealt=0.97, one_policy=0.978, deals=10, samples=135,
                  over_dealt=worth, over_one_policy=worth)  # fmt: skip
    assert "policies" not in free_board(inputs(result("a"))).texts
    unjudged = free_board(inputs(result("a", choices=CHOICES), result("b"))).texts
    assert unjudged["policies"].tolist() == ["13", "–"]
    assert "dealt" not in unjudged
    row = texts(free_board(inputs(result("a", choices={**CHOICES, "judged": judged}))), "a")
    numbers = {k: row[k] for k in ("share_std", "policies", "own", "dealt", "one_policy")}
    assert numbers == {
        "share_std": "0.070", "policies": "13", "own": "0.993", "dealt": "0.97",
        "one_policy": "0.978",
    }  # fmt: skip


def test_the_free_table_tells_the_speed_with_its_quartiles():
    speed = {"dynamic": {"median": 110.0, "low": 100.0, "high": 120.0}}
    speed["conditions"] = {"device": "a GPU", "threads": 4, "batch": 8, "engine": "plain"}
    one, other = result("a", speed=speed), result("b")
    board = free_board(inputs(one, other, other))
    assert texts(board, "a")["dynamic/s"] == "110.0 (100.0 to 120.0)"
    assert texts(board, "b")["dynamic/s"] == "–"
    twice = free_board(inputs(one, replace(one, checkpoint="b/last.pth")))
    assert texts(twice, "a")["dynamic/s"] == "110.0 ± 0.0"


@pytest.mark.parametrize("change", [
    dict(device="a GPU"), dict(threads=4), dict(batch=1), dict(engine="plain"),
    dict(precision="bf16"), dict(shape=[8, 3, 8]),
])  # fmt: skip
def test_speeds_that_were_measured_otherwise_are_told_one_by_one(change):
    name = f"vared-{STATIC}"
    one = result(name, speed={**SPEED, "conditions": HOW}, checkpoint="a/last.pth")
    fast = {"dynamic": {"median": 990.0, "low": 900.0, "high": 999.0}}
    other = replace(one, speed={**fast, "conditions": {**HOW, **change}}, checkpoint="b/last.pth")
    board = free_board(inputs(one, other))
    assert texts(board, name)["dynamic/s"] == "10.0 / 990.0"
    notes = [note for note in board.notes if note.startswith("Speed of ours (")]
    assert ["a/last.pth" in note for note in notes] == [True, False]
    (value,) = change.values()
    assert str(value) in notes[1]
    paper = texts(paper_board(TABLES[2], inputs(one, other)), "R(2+1)D, dynamic")
    assert (paper["results"], paper["speed"], paper["speed diff"]) == ("2", "10.0 / 990.0", "–")
    alike = replace(other, speed={**fast, "conditions": {**HOW, "repeats": 3}})
    assert texts(free_board(inputs(one, alike)), name)["dynamic/s"].startswith("500.0 ±")


def test_equal_studies_count_once_and_unlike_ones_stand_apart(tmp_path):
    study_file(tmp_path / "a", "i3d_k400", 0.5, "work/last.pth")
    study_file(tmp_path / "copy", "i3d_k400", 0.5, "work/last.pth")
    assert counts(paper_board(TABLES[12], collect([tmp_path]))) == ["1", "1"]
    study_file(tmp_path / "seed", "i3d_k400", 0.7, "other/last.pth")
    assert counts(paper_board(TABLES[12], collect([tmp_path]))) == ["2", "2"]
    study_file(tmp_path / "b", "i3d_k400", 0.9)
    board = paper_board(TABLES[12], collect([tmp_path]))
    assert counts(board) == ["2", "1", "2", "1"]
    assert "(random weights)" in column(board, "row")[5]


def test_table_12_is_made_of_redundancy_studies_by_config_and_axis(tmp_path):
    study_file(tmp_path / "a", "i3d_k400", 0.9)
    board = paper_board(TABLES[12], collect([tmp_path]))
    row = texts(board, "Kinetics-400, I3D, time")
    assert (row["cc"], row["cc paper"], row["cc diff"]) == ("0.900", "0.81", "+0.090")
    assert (row["rp"], row["rp paper"]) == ("–", "0.68")
    assert column(board, "results") == [*["not evaluated"] * 4, "1", "1", *["not evaluated"] * 2]
    told = "Study of i3d_k400: random weights, 5 samples; RP by cc=0.85 rmse=0.1."
    assert told in board.notes
    study_file(tmp_path / "b", "i3d_k400", 0.9, "last.pth")
    (again,) = [n for n in paper_board(TABLES[12], collect([tmp_path / "b"])).notes if "Study" in n]
    assert again.startswith("Study of i3d_k400: last.pth, 5 samples")


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", *map(str, options)])
    tool_of("leaderboard").main()


def test_the_tool_writes_a_table_and_names_what_stands_in_none(tmp_path, monkeypatch, capsys):
    write_result(tmp_path / "a", result(f"vared-{STATIC}", 0.612))
    write_result(tmp_path / "b", result("mine"))
    run(
        monkeypatch, tmp_path, "--table", 2, "--format", "csv", "--filter",
        "row.str.contains('dynamic')", "--sort=-clip-1",
    )  # fmt: skip
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert rows[0]["row"] == "R(2+1)D, dynamic"
    assert len(rows) == 3
    assert float(rows[0]["clip-1 diff"]) == pytest.approx(0.6)
    assert f"in no row: {tmp_path}/b/result.json (mine)" in told.err
    assert "vared-" not in told.err


@pytest.mark.parametrize("name", ["result.json", "samples.npz", "redundancy.json"])
@pytest.mark.parametrize("given", ["", "a"])
def test_the_tool_replaces_no_record_that_it_reads(tmp_path, monkeypatch, given, name):
    study_file(tmp_path / "a", "x", 0.5)
    write_result(tmp_path / "a", result("x"))
    with pytest.raises(SystemExit, match=f"{name} would be replaced, which is given to be read"):
        run(monkeypatch, tmp_path / given, "--format", "csv", "--out", tmp_path / "a" / name)


def test_the_tool_tells_errors_in_one_line(tmp_path, monkeypatch):
    write_result(tmp_path / "a", result("x"))
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, tmp_path, "--sort", "speeed")
    told = str(end.value)
    assert told.startswith("error: 'Results' has no column 'speeed'; there are name, checkpoint")
    assert len(told.splitlines()) == 1
