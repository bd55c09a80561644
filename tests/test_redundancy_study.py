"""The redundancy of a config's layers on its clips: told, drawn, and by the command line."""

import json
import sys

import numpy as np
import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from pairs_by_loop import judged
from torch import nn
from toy import ToyClips, runner_settings

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.flops import build_model
from vared_mm.method import NoMatchingModuleError
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.plot_style import png
from vared_mm.report.redundancy import Tally, Thresholds
from vared_mm.report.redundancy_plots import layer_lines, mean_histogram, pair_histograms
from vared_mm.report.redundancy_study import layers_of, mean_of, study

tool = tool_of("redundancy")


def test_each_layer_counts_once_in_the_mean_and_those_without_pairs_not_at_all():
    def row(pairs, cc):
        axis = {"pairs": pairs, "cc": cc, "rmse": cc, "rp": cc}
        return {"time": axis, "channel": {"pairs": 0, "cc": None, "rmse": None, "rp": None}}

    mean = mean_of([row(1, 0.5), row(1000, 0.7), row(0, None)])
    assert mean["time"] == pytest.approx({"cc": 0.6, "rmse": 0.6, "rp": 0.6})
    assert mean["channel"] == {"cc": None, "rmse": None, "rp": None}


def test_a_static_backbone_gives_the_layers_its_dynamic_form_has():
    settings = dict(depth=18, stem_channels=8, base_channels=8)
    dynamic = MODELS.build(dict(type="VaRedResNetV1c", **settings))
    static = MODELS.build(dict(type="mmseg.ResNetV1c", **settings))
    names = list(layers_of(static))
    assert names == list(dynamic_convs(dynamic)) == list(layers_of(dynamic))
    assert len(names) == 16  # two 3x3 ones in each of the 8 blocks
    assert list(layers_of(dynamic, r"layer1\.0\..*")) == ["layer1.0.conv1", "layer1.0.conv2"]


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"no preset tells .* a Sequential .* with --layers, \.\*"):
        layers_of(nn.Sequential(nn.Conv3d(2, 4, 1)))
    with pytest.raises(NoMatchingModuleError, match="'stem' matches .* named like '0'"):
        layers_of(nn.Sequential(nn.Conv3d(2, 4, 1)), "stem")


def toy(dynamic=None, **settings):
    config = Config(runner_settings(".", dynamic))
    config.update(settings)
    return build_model(config), config


def test_a_study_is_over_the_outputs_of_the_layers_on_the_clips_of_the_config():
    model, config = toy()
    config.val_dataloader.dataset.indices = 3
    report = study(model, config, samples=100, layers="[14]")
    assert report["samples"] == 3
    clips = torch.stack([ToyClips()[i]["inputs"] for i in range(3)])
    with torch.no_grad():
        outputs = {"1": model.backbone[:2](clips), "4": model.backbone(clips)}
    assert [row["name"] for row in report["layers"]] == list(outputs)
    for row, output in zip(report["layers"], outputs.values(), strict=True):
        assert row["shape"] == [8, 4, 6, 6]
        for axis, pairs in judged(output.double().numpy()).items():
            assert row[axis]["pairs"] == len(pairs)
            assert row[axis]["cc"] == pytest.approx(pairs[:, 0].mean(), abs=1e-5)
            assert row[axis]["rmse"] == pytest.approx(pairs[:, 1].mean(), abs=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_study_of_a_dynamic_model_sees_what_was_rebuilt():
    # Half the frames; the others start as copies of their neighbours.
    model, config = toy(dict(axes="time", gate_bias=(-5.0, 5.0)))
    report = study(model, config, samples=3, thresholds=Thresholds(rmse_rule="off"))
    assert [row["name"] for row in report["layers"]] == ["1", "4"]
    for row in report["layers"]:
        assert row["time"]["pairs"] == 3 * 8 * 3
        # Frames 0, 0, 2, 2: two of three neighbours are copies.
        assert row["time"]["histograms"]["rmse"][0] >= 3 * 8 * 2
        assert 2 / 3 <= row["time"]["rp"] < 1


class ImagePreprocessor(BaseDataPreprocessor):
    """As mmaction2's: frames (T, C, H, W) of each clip become rows."""

    format_shape = "NCHW"

    def forward(self, data, training=False):
        return {**data, "inputs": torch.cat([clip.movedim(1, 0) for clip in data["inputs"]])}


class FrameModel(BaseModel):
    def __init__(self):
        super().__init__(ImagePreprocessor())
        self.backbone = nn.Sequential(nn.Conv2d(2, 3, 3))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return self.backbone(inputs)


def test_the_frames_of_a_2d_network_are_neighbours_within_a_clip():
    _, config = toy()
    (row,) = study(FrameModel().eval(), config, samples=2, layers="0")["layers"]
    assert row["shape"] == [3, 4, 4, 4]
    assert row["time"]["pairs"] == 2 * 3 * 3


def test_a_model_without_a_backbone_or_with_a_broken_layer_is_refused():
    model, config = toy()
    model.backbone[4].weight.data.fill_(torch.inf)
    with pytest.raises(ValueError, match="4: there are values that are not finite"):
        study(model, config, samples=1, layers="[14]")
    with pytest.raises(ValueError, match="those of a backbone, which Linear lacks"):
        study(nn.Linear(1, 1), config, samples=1)


def test_pictures_are_drawn_of_layers_without_pairs_too():
    model, config = toy()
    report = study(model, config, samples=2, layers="[014]")
    report["thresholds"] = {"cc": 0.85, "rmse": 0.001}
    full = np.array(report["layers"][1]["channel"]["histograms"]["cc"])
    empty = Tally(Thresholds()).summary()
    report["layers"][0]["channel"] = report["layers"][2]["channel"] = empty
    heights = mean_histogram(report["layers"], "channel", "cc")
    np.testing.assert_allclose(heights, full / full.sum())
    for row in report["layers"]:
        row["channel"] = empty
    for draw in (layer_lines, pair_histograms):
        assert png(draw, report).startswith(b"\x89PNG")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Calls the tool in a user's folder."""

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["redundancy.py", *options])
        tool.main()

    monkeypatch.chdir(tmp_path)
    return call


def test_the_command_line_tells_draws_and_writes(command, tmp_path, capsys):
    clips = MotionClipsConfig(clips_per_class=1, val_clips_per_class=1, frames=16, size=32)
    make_motion_clips("data/motion_clips", clips)
    (tmp_path / "i3d.py").write_text(
        "_base_ = 'vared_mm::demo/vared_i3d_motion.py'\n"
        "model = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))\n"
    )
    layers = r"mixed_3b\.branch_1.*"
    command("i3d.py", "--samples", "3", "--layers", layers, "--rmse-rule", "below", "--out", "told")
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "told/redundancy.json").read_text())
    assert report["config"] == "i3d.py"
    assert report["samples"] == 3
    assert report["thresholds"] == {"cc": 0.85, "rmse": 0.001, "rmse_rule": "below"}
    assert [row["shape"] for row in report["layers"]] == [[12, 8, 6, 6], [16, 8, 6, 6]]
    # Three clips; 7 neighbours of each of 12 channels, and one partner for each of 12 x 8 maps.
    assert report["layers"][0]["time"]["pairs"] == 3 * 12 * 7
    assert report["layers"][0]["channel"]["pairs"] == 3 * 12 * 8
    for row in report["layers"]:
        assert f" {row['time']['cc']:.3f} " in printed
        assert f" {row['channel']['rmse']:.3f} " in printed
        assert sum(row["time"]["histograms"]["cc"]) == row["time"]["pairs"]
    assert {path.name for path in (tmp_path / "told").iterdir()} == {
        "redundancy.json", "layers.png", "histograms.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("none.py",), "there is no config file none.py"),
        (("none.py", "none.pth"), "there is no checkpoint none.pth"),
        (("none.py", "--samples", "0"), "--samples: wanted a whole number from 1 on"),
        (("empty.py", "--cc", "2"), "error: cc is 2.0; wanted a correlation"),
    ],
)
def test_what_cannot_be_told_is_refused(command, tmp_path, capsys, options, message):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(SystemExit) as refusal:
        command(*options)
    assert message in f"{refusal.value}{capsys.readouterr().err}"
