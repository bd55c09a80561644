"""From results to pictures and reports by the command line, on real files; what it refuses."""

import sys
from dataclasses import replace
from pathlib import Path

import decord
import numpy as np
import pytest
import torch
from command_lines import tool_of
from mmengine.registry import DATASETS, init_default_scope
from results_by_hand import result_of, samples_of
from torch import nn

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.method.observe import dynamic_convs
from vared_mm.report import policy_pictures
from vared_mm.report.evaluation_key import weights_digest
from vared_mm.report.evaluation_samples import describe
from vared_mm.report.result import write_result, write_samples

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
    stems = {"heatmap", "strips", "rates", "gmacs", "share_loss", "policies", *layers}
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


def test_of_several_folders_those_without_a_result_are_left_out_with_a_word(
    call, user, tmp_path, capsys
):
    (tmp_path / "budget").mkdir()
    call("static", tmp_path / "budget", "dynamic", "--out", tmp_path)
    assert f"left out: {tmp_path}/budget has no result.json" in capsys.readouterr().err
    assert (tmp_path / "scatter.png").exists()
    with pytest.raises(SystemExit, match=r"there is no .*budget/result\.json; wanted a folder"):
        call(tmp_path / "budget")
    with pytest.raises(SystemExit, match="there is no nowhere"):
        call("static", "nowhere")


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
    told = "Left out heatmap, strips, features, rates, choices: net is static: it computes all of "
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
        (("dynamic", "--report", "dynamic/samples.npz"), "samples.npz would be replaced, which is"),
        (("nowhere",), "there is no nowhere; wanted a folder that vared-mm evaluate wrote"),
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
            "--only knows heatmap, strips, features, rates, choices, scatter; came 'heatmaps'",
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
        (dict(settings="0" * 64), "strips", "vared_net.py says something else than when vared_net"),
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
    ids=["checkpoint", "config", "edited", "annotations", "other-data"],
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


def test_feature_maps_are_those_of_the_weights_that_were_evaluated(call, user, tmp_path):
    result, samples = tool.read_result(user / "dynamic"), tool.read_samples(user / "dynamic")
    model = build_model(config_of("vared_net.py"), "net.pth")
    own = weights_digest(model.state_dict())
    for weights, folder in ((own, "own"), ("0123", "other")):
        write_samples(tmp_path / folder, samples)
        write_result(tmp_path / folder, replace(result, weights=weights))
    call(tmp_path / "own", "--only", "features", "--layers", ".*branch_1.*")
    with pytest.raises(SystemExit, match=r"net.pth holds other weights than vared_net was evalua"):
        call(tmp_path / "other", "--only", "features")


def test_samples_of_another_evaluation_are_refused(call, user, tmp_path):
    result, samples = tool.read_result(user / "dynamic"), tool.read_samples(user / "dynamic")
    write_samples(tmp_path, samples)
    write_result(tmp_path, replace(result, data=replace(result.data, samples=3)))
    with pytest.raises(SystemExit, match=r"result.json tells of 3 samples, samples.npz of 9"):
        call(tmp_path, "--only", "rates")


def test_of_samples_without_policies_the_other_pictures_are_drawn(call, user, tmp_path, capsys):
    samples = tool.read_samples(user / "dynamic")
    write_samples(tmp_path, replace(samples, loss=None, policy=None))
    write_result(tmp_path, tool.read_result(user / "dynamic"))
    call(tmp_path, "--only", "rates,choices")
    told = "Left out choices: losses and policies were not kept when vared_net was evaluated; run "
    assert told in capsys.readouterr().out
    assert (tmp_path / "pictures" / "rates.png").exists()


def test_what_a_test_wrote_without_samples_gives_the_report_and_the_scatter(
    call, user, tmp_path, capsys
):
    write_result(tmp_path, tool.read_result(user / "dynamic"))
    call(tmp_path, "--report", tmp_path / "report.html")
    assert "nothing is told of the single samples of vared_net" in capsys.readouterr().out
    report = (tmp_path / "report.html").read_text()
    assert all(f">{title}</h2>" in report for title in ("Metrics", "Cost", "Speed", "Layers"))
    assert ">Samples</h2>" not in report
    call(user / "static", tmp_path / "result.json", "--out", tmp_path / "pictures")
    assert (tmp_path / "pictures" / "scatter.png").exists()


def test_a_result_without_its_cost_is_refused(call, user, tmp_path):
    write_result(tmp_path, replace(tool.read_result(user / "dynamic"), cost=None))
    with pytest.raises(
        SystemExit, match="tells no cost, as the test had no CostMetric; vared-mm ev"
    ):
        call(tmp_path, "--report", tmp_path / "report.html")


def test_samples_that_are_not_there_are_asked_for(call, user, tmp_path):
    write_result(tmp_path, tool.read_result(user / "dynamic"))
    with pytest.raises(SystemExit, match=r"there is no .*samples\.npz"):
        call(tmp_path)
