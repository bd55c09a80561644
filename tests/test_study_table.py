"""What the study's table tells of its runs, and of what it is silent."""

import json
from dataclasses import replace

import pytest
from command_lines import tool_of
from results_by_hand import result

from vared_mm.report.result import write_result

study = tool_of("study")
RESULT = result(0.5, 0.5, 0.5)


def test_the_table_tells_mean_and_standard_deviation_over_the_seeds(tmp_path):
    for seed, of_seed in enumerate([result(0.70, 0.5, 0.4), result(0.80, 0.7, 0.3)]):
        write_result(tmp_path / f"i3d-dynamic-{seed}", of_seed)
    line = study.report(tmp_path).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # 0.1 apart: each is 0.05 from the mean, so the deviation of two is 0.05·√2 = 0.0707.
    assert cells[:4] == ["i3d", "dynamic", "2", "75.0 ± 7.1"]
    assert cells[4:7] == ["0.800", "0.600 ± 0.141", "0.300 to 0.900"]
    # 1 - 0.6 / 0.8 = 25 %.
    assert cells[7] == "25.0 ± 17.7"
    assert cells[9] == "0.600 ± 0.141"
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["seed"], row["top1"]) for row in rows] == [(0, 0.7), (1, 0.8)]


def test_a_mean_of_some_seeds_tells_how_many_they_are(tmp_path):
    for seed, top1 in enumerate([0.5, 0.7, None]):
        write_result(tmp_path / f"i3d-dynamic-{seed}", result(top1, 0.5, 0.5))
    write_result(tmp_path / "i3d-cgnet-0", result(None, 0.5, 0.5))
    (tmp_path / "i3d-speed-0.json").write_text(json.dumps(dict(speeds={
        "x/i3d-static-0": dict(median=100.0), "x/i3d-dynamic-0": dict(median=110.0),
    })))  # fmt: skip
    lines = [line.split("|")[3:] for line in study.report(tmp_path).splitlines()[2:]]
    told = [[line[i].strip() for i in (0, 1, -2)] for line in lines]
    assert told == [["3", "60.0 ± 14.1 (2 of 3)", "1.10 (1 of 3)"], ["1", "–", "–"]]


def test_the_table_says_that_a_pruned_network_takes_the_time_of_the_dense_one(tmp_path):
    pruned = result(0.7, 0.8, 0.8)
    half = {"avg": 0.4, "min": 0.4, "max": 0.4}
    cost = {**pruned.cost, "paper_gmacs": half, "zero_gmacs": 0.4}
    write_result(tmp_path / "i3d-pruned-0", replace(pruned, cost=cost))
    write_result(tmp_path / "i3d-static-0", result(0.7, 0.8, 0.8))
    table = study.report(tmp_path)
    line, note = table.splitlines()[-3], table.splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")][6:11:4] == ["0.800", "0.400"]
    assert note.startswith("pruned: the GMACs by formula leave out weights that are zero; they are")
    assert "static:" not in table


def test_the_table_tells_how_many_times_the_static_form_of_the_seed_a_form_does_per_second(
    tmp_path,
):
    for seed, rates in enumerate([(100.0, 110.0), (200.0, 260.0)]):
        speeds = {}
        for form, rate in zip(("static", "dynamic"), rates, strict=True):
            write_result(tmp_path / f"i3d-{form}-{seed}", RESULT)
            speeds[f"x/i3d-{form}-{seed}"] = dict(median=rate)
        (tmp_path / f"i3d-speed-{seed}.json").write_text(json.dumps(dict(speeds=speeds)))
    write_result(tmp_path / "i3d-cgnet-0", RESULT)
    last = [line.split("|")[-2].strip() for line in study.report(tmp_path).splitlines()[2:]]
    # 1.1 and 1.3 are 0.1 from their mean, so the deviation of two is 0.1·√2.
    assert last == ["1.00 ± 0.00", "1.20 ± 0.14", "–"]
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row.get("per_second") for row in rows] == [None, 110.0, 260.0, 100.0, 200.0]


def test_runs_that_were_tested_on_other_clips_are_told_in_no_table(tmp_path):
    for seed, clips in enumerate(["abc", "abc", "def"]):
        data = replace(RESULT.data, fingerprint=clips)
        write_result(tmp_path / f"i3d-static-{seed}", replace(RESULT, data=data))
    told = r"2 different .*: i3d-static-0, i3d-static-1 on \[abc\]; i3d-static-2 on \[def\]; remove"
    with pytest.raises(ValueError, match=told):
        study.report(tmp_path)
    assert not (tmp_path / "results.md").exists()


def test_a_network_of_fewer_channels_saves_macs_of_the_static_one(tmp_path):
    small = result(0.7, 0.2, 0.2)
    small = replace(small, cost={**small.cost, "dense_gmacs": 0.2})
    write_result(tmp_path / "i3d-static-0", result(0.7, 0.8, 0.8))
    write_result(tmp_path / "i3d-ghost-0", small)
    # 1 - 0.2 / 0.8 = 75 %.
    assert study.report(tmp_path).splitlines()[-1].split("|")[8].strip() == "75.0"
