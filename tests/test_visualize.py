"""From results to pictures and reports: a model on real files, models side by side, refusals."""

import sys
from dataclasses import replace
from pathlib import Path

import decord
import numpy as np
import pytest
import torch
from command_lines import tool_of
from matplotlib.colors import same_color
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.report import policy_pictures
from vared_mm.report.comparison import (
    IncomparableError,
    Point,
    check_comparable,
    common_accuracy,
    points_of,
    scatter,
)
from vared_mm.report.evaluation_samples import describe
from vared_mm.report.model_report import ROWS, comparison_sections, model_sections
from vared_mm.report.result import Data, Result, Samples, write_result, write_samples

tool = tool_of("visualize")

CONFIG = """
_base_ = 'vared_mm::demo/vared_i3d_motion.py'
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(width=0.125, dynamic=dict(targets=r'mixed_3b\\.branch_[12]\\.1\\.conv')),
    cls_head=dict(in_channels=128))
test_dataloader = dict(
    dataset=dict(dataset=dict(ann_file='clips/val.txt', data_prefix=dict(video='clips'))))
"""
SHARE = np.array([1.0, 0.5, 0.625, 0.625, 0.75, 1.0, 0.25, 0.5, 1.0])


def spread(values):
    return {"avg": float(np.mean(values)), "min": float(min(values)), "max": float(max(values))}


def samples_of(files, labels, layers, share):
    n = len(files)
    layer_share = np.stack([share] * len(layers), 1) if layers else np.zeros((n, 0))
    return Samples(
        file=np.array(files),
        label=np.array(labels),
        predicted=np.roll(labels, 1),
        correct=np.array([i % 2 for i in range(n)], float),
        share=share,
        paper_gmacs=1 + share,
        full_gmacs=1.5 + share,
        layer_names=np.array(layers, dtype=np.str_),
        layer_dense=np.full((n, len(layers)), 2e9),
        layer_share=layer_share,
    )


def result_of(samples, classes=None, **changes):
    layers = [
        {"name": name, "dense_gmacs": 2.0, "share": spread(samples.share),
         "full_gmacs": spread(samples.share)}
        for name in samples.layer_names.tolist()
    ]  # fmt: skip
    cost = {
        "dense_gmacs": 3.0,
        "share": spread(samples.share),
        "paper_gmacs": spread(samples.paper_gmacs),
        "full_gmacs": spread(samples.full_gmacs),
        "layers": layers,
    }
    settings = dict(
        name="vared_net", config="vared_net.py", options={}, checkpoint="net.pth", commit="c0ffee",
        created="2026-01-02T03:04:05+00:00", task="recognition",
        data=Data("VideoDataset", "clips/val.txt", len(samples), classes, "abc"), device="a CPU",
        threads=1, packages={"torch": "2.13"}, parameters=1234, metrics={"acc/top1": 0.5},
        cost=cost, speed=None,
    )  # fmt: skip
    return Result(**{**settings, **changes})


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's folder: nine clips, a small dynamic network with lively gates, and its result."""
    folder = tmp_path_factory.mktemp("user")
    # 56 pixels, which the test pipeline crops to the middle 48 without resizing.
    make_motion_clips(folder / "clips", MotionClipsConfig(1, 1, 16, 56))
    (folder / "vared_net.py").write_text(CONFIG)
    model = build_model(config_of(str(folder / "vared_net.py")))
    generator = torch.Generator().manual_seed(0)
    for conv in dynamic_convs(model).values():
        nn.init.normal_(conv.gate.weight2, std=3, generator=generator)
    torch.save({"state_dict": model.state_dict()}, folder / "net.pth")
    lines = (folder / "clips" / "val.txt").read_text().splitlines()
    (folder / "clips" / "reversed.txt").write_text("\n".join(reversed(lines)))
    init_default_scope("mmaction")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dataset = DATASETS.build(config_of("vared_net.py").test_dataloader.dataset)
        data, files = describe(dataset, ("up", "down", "left", "none"))
    samples = samples_of(
        files,
        # Three classes of three clips; what the files show matters to no picture.
        [0, 0, 0, 1, 1, 1, 2, 2, 2],
        list(dynamic_convs(model)),
        SHARE,
    )
    write_samples(folder / "dynamic", samples)
    write_result(folder / "dynamic", result_of(samples, data=data))
    still = samples_of(samples.file, samples.label, [], np.ones(9))
    write_samples(folder / "static", still)
    static = result_of(still, name="net", config="net.py", checkpoint="static.pth", data=data)
    write_result(folder / "static", static)
    return folder


@pytest.fixture
def call(user, monkeypatch):
    """Calls the tool from the user's folder."""
    monkeypatch.chdir(user)

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["visualize.py", *map(str, options)])
        tool.main()

    return run


@pytest.fixture
def strips(monkeypatch):
    """The strips that are drawn."""
    seen = []
    draw = policy_pictures.film_strips
    monkeypatch.setattr(
        policy_pictures, "film_strips", lambda rows: seen.append(rows) or draw(rows)
    )
    return seen


def test_one_model_gives_pictures_for_both_papers_and_a_report(call, user, tmp_path, capsys):
    call("dynamic", "--out", tmp_path, "--report", tmp_path / "report.html")
    layers = [f"features_backbone.mixed_3b.branch_{i}.1.conv" for i in (1, 2)]
    stems = {"heatmap", "strips", "rates", "gmacs", *layers}
    names = {f"{stem}{paper}.png" for stem in stems for paper in ("", "_dark")}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "report.html"}
    report = (tmp_path / "report.html").read_text()
    assert report.count("<figure") == len(stems)
    titles = ("Model", "Metrics", "Cost", "Speed", "Layers", "Policy", "Classes", "Samples")
    assert all(f">{title}</h2>" in report for title in titles)
    assert "Left out" not in report
    assert str(tmp_path / "heatmap.png") in capsys.readouterr().out


def test_strips_show_most_and_least_of_the_widest_classes_as_the_files_have_them(
    call, user, tmp_path, strips
):
    call("dynamic", "--only", "strips", "--out", tmp_path)
    rows = strips[0]
    # Ranges of 0.75, 0.5 and 0.375; the first of equals.
    by_hand = [("left", 8), ("left", 6), ("up", 0), ("up", 1), ("down", 5), ("down", 3)]
    samples = tool.read_samples(user / "dynamic")
    assert [(row.group, row.share) for row in rows] == [(name, SHARE[i]) for name, i in by_hand]
    assert [row.file for row in rows] == [samples.file[i] for _, i in by_hand]
    for row in rows:
        frames = decord.VideoReader(str(user / row.file))[:].asnumpy()
        np.testing.assert_array_equal(row.frames, frames[:, 4:52, 4:52])


def test_strips_of_classes_by_name_come_in_their_order_and_equals_once(
    call, user, tmp_path, strips, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").symlink_to(user / "clips")
    samples = tool.read_samples(user / "dynamic")
    write_samples("equal", replace(samples, share=np.array([0.5] * 3 + SHARE[3:].tolist())))
    config = str(user / "vared_net.py")
    write_result("equal", replace(tool.read_result(user / "dynamic"), config=config))
    call("equal", "--only", "strips", "--classes", "up", "left")
    assert [(row.group, row.share) for row in strips[0]] == [
        ("up", 0.5),
        ("left", 1),
        ("left", 0.25),
    ]


def test_feature_maps_of_a_clip_by_name_and_of_layers_by_pattern(call, user, tmp_path, monkeypatch):
    drawn = []
    draw = policy_pictures.draw_maps
    monkeypatch.setattr(policy_pictures, "draw_maps", lambda maps: drawn.append(maps) or draw(maps))
    file = tool.read_samples(user / "dynamic").file[4]
    call("dynamic", "--only", "features", "--layers", ".*branch_1.*", "--clip", Path(file).name,
         "--out", tmp_path)  # fmt: skip
    (layer, _) = drawn
    # Channels and frames of the layer for a clip of 16 frames, of which the stem keeps 8.
    conv = build_model(config_of("vared_net.py")).get_submodule(layer.name)
    assert layer.maps.shape[:2] == layer.computed.shape == (conv.out_channels, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"features_{layer.name}.png",
        f"features_{layer.name}_dark.png",
    ]


def test_several_models_give_a_scatter_and_a_comparison(call, tmp_path, capsys):
    call("static", "dynamic", "--out", tmp_path, "--report", tmp_path / "report.html")
    names = {"scatter.png", "scatter_dark.png", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "vared_net.py" not in (report := (tmp_path / "report.html").read_text())
    assert "<title>net, vared_net</title>" in report


def test_several_models_are_drawn_one_by_one_where_asked_and_static_ones_told(
    call, tmp_path, capsys
):
    call("static", "dynamic", "--only", "rates", "--out", tmp_path)
    assert "Left out rates: net is static" in capsys.readouterr().out
    names = {"rates.png", "rates_dark.png", "gmacs.png", "gmacs_dark.png"}
    assert {path.name for path in (tmp_path / "2_vared_net").iterdir()} == names
    assert not (tmp_path / "1_net").exists()


def test_a_static_model_has_a_report_without_policy(call, tmp_path, capsys):
    call("static", "--out", tmp_path, "--report", tmp_path / "report.html")
    told = (
        "Left out heatmap, strips, features, rates: net is static: it computes all of every layer"
    )
    assert told in capsys.readouterr().out
    report = (tmp_path / "report.html").read_text()
    assert told in report
    assert "<figure" not in report
    assert "no convolution of it is dynamic" in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("static", "--only", "heatmap"), "net is static: it computes all of every layer"),
        (("dynamic", "--classes", "upp", "--only", "heatmap"), "no class 'upp' among the 4"),
        (("dynamic", "--classes", "none", "--only", "strips"), "'none' has no sample"),
        (("dynamic", "--only", "features", "--layers", "x"), "--layers 'x' matches"),
        (
            (
                "dynamic",
                "--only",
                "features",
                "--layers",
                ".*branch_1.*",
                "--cfg-options",
                r"model.backbone.dynamic.targets=mixed_3b\.branch_2\.1\.conv",
            ),
            "of a dynamic network, and the config's has no backbone.mixed_3b.branch_1.1.conv",
        ),
        (("dynamic", "--only", "features", "--clip", "x.mp4"), "x.mp4 is none of the 9 samples"),
        (("nowhere",), "there is no nowhere; wanted a folder that tools/evaluate.py wrote"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_reason(call, options, message):
    with pytest.raises(SystemExit, match=message):
        call(*options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--only", "heatmaps"),
            "--only knows heatmap, strips, features, rates, scatter; came 'heatmaps'",
        ),
        (("--classes", "0"), "--classes is 0; wanted names, or 1 or more of the first"),
    ],
)
def test_wrong_options_are_refused_with_what_is_wanted(call, capsys, options, message):
    with pytest.raises(SystemExit):
        call("dynamic", *options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (dict(checkpoint="gone.pth"), "features", "the checkpoint gone.pth is not here"),
        (dict(config="gone.py"), "strips", "the config gone.py of vared_net is not here"),
        (
            dict(options={"test_dataloader.dataset.dataset.ann_file": "clips/gone.txt"}),
            "strips",
            "the data that vared_net was evaluated on are not here .*gone.txt.*--cfg-options",
        ),
        (
            dict(options={"test_dataloader.dataset.dataset.ann_file": "clips/reversed.txt"}),
            "strips",
            "evaluated on 9 samples of clips/val.txt with .* here are 9 of clips/reversed.txt with",
        ),
    ],
    ids=["checkpoint", "config", "annotations", "other-data"],
)
def test_what_is_not_here_any_more_is_an_error_if_asked_for_and_else_told(
    call, user, tmp_path, capsys, changes, kind, message
):
    write_samples(tmp_path, tool.read_samples(user / "dynamic"))
    write_result(tmp_path, replace(tool.read_result(user / "dynamic"), **changes))
    with pytest.raises(SystemExit, match=message):
        call(tmp_path, "--only", kind)
    call(tmp_path, "--only", f"rates,{kind}", "--out", tmp_path)
    assert f"Left out {kind}: " in capsys.readouterr().out


def test_samples_that_are_not_there_are_asked_for(call, user, tmp_path):
    write_result(tmp_path, tool.read_result(user / "dynamic"))
    with pytest.raises(SystemExit, match=r"there is no .*samples\.npz"):
        call(tmp_path)


def test_results_of_other_data_or_tasks_are_refused_by_name():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    ours = result_of(samples)
    theirs = replace(ours, name="other", data=replace(ours.data, file="b.txt", fingerprint="def"))
    with pytest.raises(IncomparableError, match=r"vared_net \(.*val.txt.*other \(.*b.txt.*def"):
        check_comparable([ours, ours, theirs])
    with pytest.raises(IncomparableError, match="segmentation on 2 samples"):
        check_comparable([ours, replace(ours, task="segmentation")])
    check_comparable([ours, replace(ours, name="other", checkpoint="other.pth")])


def test_the_accuracy_is_the_first_that_all_results_have():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    one = result_of(samples, metrics={"acc/video1": 0.6, "acc/clip1": 0.5})
    other = result_of(samples, metrics={"acc/video1": None, "acc/clip1": 0.4})
    assert common_accuracy([one, one]) == "acc/video1"
    assert common_accuracy([one, other]) == "acc/clip1"
    assert [p.accuracy for p in points_of([one, other], "acc/clip1")] == [0.5, 0.4]
    with pytest.raises(IncomparableError, match=r"wanted one of .* came vared_net: \['loss'\]"):
        common_accuracy([result_of(samples, metrics={"loss": 1.0})])


def test_the_scatter_tells_twins_by_filling_and_gives_seeds_one_colour():
    points = [
        Point("net", False, 0.90, 3.0, 3.0 + 1e-15, 3.0),
        Point("vared_net", True, 0.91, 2.0, 1.5, 2.75),
        Point("vared_net", True, 0.93, 2.1, 1.6, 2.8),
    ]
    panel = scatter(points, "acc/top1").axes[0]
    static, *seeds = (container.lines for container in panel.containers)
    for (line, _, bars), point in zip([static, *seeds], points, strict=True):
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (point.gmacs, point.accuracy)
        ((low, _), (high, _)) = bars[0].get_segments()[0]
        assert (low, high) == pytest.approx((point.least, point.most))
        filled = not same_color(line.get_markerfacecolor(), "none")
        assert filled == point.dynamic
    colours = [line.get_color() for line, _, _ in (static, *seeds)]
    assert colours[1] == colours[2] != colours[0]
    assert panel.get_ylabel() == "acc/top1"


@pytest.mark.parametrize(("accuracies", "span"), [
    ((35.34, 35.42), 5), ((0.5, 0.501), 0.05), ((0.0, 1.0), 1.1),
])  # fmt: skip
def test_hardly_any_difference_in_accuracy_does_not_look_great(accuracies, span):
    points = [Point("net", True, accuracy, 1.0, 1.0, 1.0) for accuracy in accuracies]
    low, high = scatter(points, "mIoU").axes[0].get_ylim()
    assert high - low == pytest.approx(span)
    assert (high + low) / 2 == pytest.approx(sum(accuracies) / 2)


def table(sections, title):
    return next(item for s in sections for item in s.items if getattr(item, "title", "") == title)


def test_a_predicted_class_without_a_name_is_told_by_its_number():
    samples = replace(samples_of(["a"], [0], ["x"], np.ones(1)), predicted=np.array([7]))
    rows = table(model_sections(result_of(samples, ("up", "down")), samples, []), "Samples").rows
    assert rows[0][1:3] == ["up", "class 7"]


def test_the_tables_of_a_classification_model_by_hand():
    share = np.array([0.5, 1.0, 0.75, 0.25])
    samples = samples_of(["a", "b", "c", "d"], [0, 1, 0, 0], ["x", "y"], share)
    result = result_of(samples, ("up", "down", "left"))
    sections = model_sections(result, samples, [])
    rows = table(sections, "Classes").rows
    # Of a, c and d the last alone is right; their shares are 0.5, 0.75 and 0.25.
    assert rows[0] == ["up", 3, pytest.approx(100 / 3), 50, 25, 75]
    assert rows[1] == ["down", 1, 100, 100, 100, 100]
    assert rows[2] == ["left", 0, None, None, None, None]
    # From most to least computation; the predictions are the labels of the sample before.
    assert table(sections, "Samples").rows == [
        ["b", "down", "up", "yes", 100.0, 2.5],
        ["c", "up", "down", "no", 75.0, 2.25],
        ["a", "up", "up", "no", 50.0, 2.0],
        ["d", "up", "up", "yes", 25.0, 1.75],
    ]
    layer = table(sections, "Dynamic convolutions").rows[1]
    assert layer == ["y", 62.5, 25, 100, 2000, 625]
    cost = table(sections, "Cost of a sample").rows
    assert cost[0] == ["dense GMACs", 3.0, None, None]
    assert [row[1:] for row in cost[1:]] == [
        [1.625, 1.25, 2.0],
        [2.125, 1.75, 2.5],
        [62.5, 25, 100],
    ]


def test_of_many_samples_those_with_most_and_least_computation_are_listed_and_it_is_said():
    share = np.random.default_rng(0).permutation(700) / 700
    samples = samples_of([str(i) for i in range(700)], [0] * 700, ["x"], share)
    shown = table(model_sections(result_of(samples), samples, []), "Samples")
    order = [str(i) for i in sorted(range(700), key=lambda i: -share[i])]
    assert [row[0] for row in shown.rows] == order[:250] + order[450:]
    assert len(shown.rows) == ROWS
    assert shown.note.startswith("500 of 700 samples: the 250 with the most and the 250 with the")


def test_speed_and_models_side_by_side_by_hand():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    rate = {"median": 10.0, "low": 9.0, "high": 11.0}
    speed = {"static": rate, "dynamic": {**rate, "median": 14.0}, "conditions": {"batch": 8}}
    one = result_of(samples, speed=speed)
    shown = table(model_sections(one, samples, []), "Clips or images per second")
    assert shown.rows == [["static", 10.0, 9.0, 11.0], ["dynamic", 14.0, 9.0, 11.0]]
    other = result_of(samples, name="other", metrics={"acc/video1": 0.25})
    rows = table(comparison_sections([one, other], []), "Models")
    first, second = (dict(zip(rows.columns, row, strict=True)) for row in rows.rows)
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
