"""The tables of a report, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from results_by_hand import result_of, samples_of

from vared_mm.report.model_report import ROWS, comparison_section, model_sections


def section(sections, title):
    return next(section for section in sections if section.title == title)


def rows(section):
    """Of its table; None is missing."""
    table = section.table.astype(object)
    return table.where(section.table.notna(), None).to_numpy().tolist()


def test_a_predicted_class_without_a_name_is_told_by_its_number():
    samples = replace(samples_of(["a"], [0], ["x"], np.ones(1)), predicted=np.array([7]))
    sections = model_sections(result_of(samples, ("up", "down")), samples, [])
    assert rows(section(sections, "Samples"))[0][1:3] == ["up", "class 7"]


def test_the_tables_of_a_classification_model_by_hand():
    share = np.array([0.5, 1.0, 0.75, 0.25])
    samples = samples_of(["a", "b", "c", "d"], [0, 1, 0, 0], ["x", "y"], share)
    result = result_of(samples, ("up", "down", "left"))
    sections = model_sections(result, samples, [])
    assert rows(section(sections, "Metrics")) == [["acc/top1", 0.5]]
    # Of a, c and d the last alone is right; their shares are 0.5, 0.75 and 0.25.
    assert rows(section(sections, "Classes")) == [
        ["up", 3, pytest.approx(100 / 3), 50, 25, 75],
        ["down", 1, 100, 100, 100, 100],
        ["left", 0, None, None, None, None],
    ]
    # From most to least computation; the predictions are the labels of the sample before.
    assert rows(section(sections, "Samples")) == [
        ["b", "down", "up", "yes", 100.0, 2.5],
        ["c", "up", "down", "no", 75.0, 2.25],
        ["a", "up", "up", "no", 50.0, 2.0],
        ["d", "up", "up", "yes", 25.0, 1.75],
    ]
    assert rows(section(sections, "Layers"))[1] == ["y", 62.5, 25, 100, 2000, 625]
    cost = rows(section(sections, "Cost"))
    assert cost[0] == ["dense GMACs", 3.0, None, None]
    assert [row[1:] for row in cost[1:]] == [
        [1.625, 1.25, 2.0],
        [2.125, 1.75, 2.5],
        [62.5, 25, 100],
    ]


def test_the_choices_and_the_policies_by_hand():
    share = np.array([0.5, 0.25, 0.25, 0.25])
    samples = samples_of(["a", "b", "c", "d"], [0, 1, 0, 2], ["x"], share)
    choices = dict(
        share_std=0.1, share_quartiles=[0.25, 0.25, 0.3], policies=2, first_four=1.0,
        spearman=None, policy={"x": [1.0]}, policy_share=0.25, judged=None, verdict=None,
    )  # fmt: skip
    result = result_of(samples, ("up", "down", "left"), choices=choices)
    sections = model_sections(result, samples, [])
    assert rows(section(sections, "Choices"))[:3] == [
        ["share, standard deviation (%)", "10.0"],
        ["share, quartiles (%)", "25.0, 25.0, 30.0"],
        ["policies", "2"],
    ]
    assert section(sections, "Choices").text == (
        "vared-mm evaluate --choices tells what they are worth."
    )
    # The second and the fourth are right; losses are 1 + share.
    assert rows(section(sections, "Policies")) == [
        ["1", 3, 25, pytest.approx(200 / 3), 1.25, "up 1, down 1, left 1"],
        ["2", 1, 50, 0, 1.5, "up 1"],
    ]
    told = model_sections(replace(result, choices={**choices, "verdict": "So."}), samples, [])
    assert section(told, "Choices").text == "So."


def test_of_many_samples_those_with_most_and_least_computation_are_listed_and_it_is_said():
    share = np.random.default_rng(0).permutation(700) / 700
    samples = samples_of([str(i) for i in range(700)], [0] * 700, ["x"], share)
    shown = section(model_sections(result_of(samples), samples, []), "Samples")
    order = [str(i) for i in sorted(range(700), key=lambda i: -share[i])]
    assert shown.table["file"].tolist() == order[:250] + order[450:]
    assert len(shown.table) == ROWS
    assert shown.note.startswith("500 of 700 samples: the 250 with the most and the 250 with the")


def test_speed_and_models_side_by_side_by_hand():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    rate = {"median": 10.0, "low": 9.0, "high": 11.0}
    speed = {"static": rate, "dynamic": {**rate, "median": 14.0}, "conditions": {"batch": 8}}
    one = result_of(samples, speed=speed)
    shown = section(model_sections(one, samples, []), "Speed")
    assert rows(shown) == [["static", 10.0, 9.0, 11.0], ["dynamic", 14.0, 9.0, 11.0]]
    other = result_of(samples, name="other", metrics={"acc/video1": 0.25})
    compared = comparison_section([one, other], [])
    first, second = (dict(zip(compared.table, row, strict=True)) for row in rows(compared))
    assert (first["acc/top1"], first["acc/video1"]) == (0.5, None)
    assert (second["acc/top1"], second["acc/video1"]) == (None, 0.25)
    assert (first["full min"], first["full avg"], first["full max"]) == (2.0, 2.25, 2.5)
    assert (first["clips/s static"], first["clips/s dynamic"]) == (10.0, 14.0)
    assert second["clips/s static"] is None


def test_a_segmentation_model_has_no_table_of_classes():
    samples = samples_of(["a", "b"], [-1, -1], ["x"], np.array([0.5, 1]))
    result = result_of(samples, ("road", "sky"), task="segmentation", metrics={"mIoU": 50.0})
    titles = [section.title for section in model_sections(result, samples, [])]
    assert titles == ["Metrics", "Cost", "Speed", "Policy", "Layers", "Model"]
