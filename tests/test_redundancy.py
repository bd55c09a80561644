"""CC, RMSE and RP against loops in float64, on maps made by hand, and on clips of a config."""

import json
import sys
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import nn
from toy import ToyClips, runner_settings

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.flops import build_model
from vared_mm.method import NoMatchingModuleError
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.plot_style import png
from vared_mm.report.redundancy import (
    LayerTally,
    Tally,
    Thresholds,
    best_matches,
    maps_of,
    neighbours,
    scaled,
)
from vared_mm.report.redundancy_plots import layer_lines, mean_histogram, pair_histograms
from vared_mm.report.redundancy_study import layers_of, mean_of, study

tool = tool_of("redundancy")

RAMP = [0.0, 1.0, 2.0, 4.0]  # scaled 0, 1/4, 1/2, 1


def maps_by_hand(*maps):
    """One clip of one frame whose channels are `maps`."""
    return torch.tensor(maps, dtype=torch.float64)[None, None]


def pair(a, b):
    """CC and RMSE of two maps as neighbouring frames, which are those of two channels too."""
    maps = scaled(maps_by_hand(a, b))
    as_time = [value.item() for value in neighbours(maps.movedim(2, 1))]
    as_channel = [value[0, 0, 0].item() for value in best_matches(maps)]
    assert as_time == pytest.approx(as_channel)
    return as_time


@pytest.mark.parametrize(
    ("a", "b", "cc", "rmse"),
    [
        pytest.param(RAMP, RAMP, 1, 0, id="identical"),
        pytest.param(RAMP, [5.0, 8.0, 11.0, 17.0], 1, 0, id="brighter-with-more-contrast"),
        # Scaled 0, 1 against 1, 0.
        pytest.param([0.0, 3.0], [0.0, -3.0], -1, 1, id="negated"),
        # (1, -1, 1, -1) and (1, 1, -1, -1) are orthogonal; half of the pixels differ by 1.
        pytest.param([1.0, 0, 1, 0], [1.0, 1, 0, 0], 0, 0.5**0.5, id="unrelated"),
        # Scaled (0, 1/2, 1) and (1, 0, 1): deviations (-1/2, 0, 1/2) and (1/3, -2/3, 1/3).
        pytest.param([0.0, 1, 2], [9.0, 7, 9], 0, (1.25 / 3) ** 0.5, id="three-pixels"),
        pytest.param([7.0] * 4, [7.0] * 4, 1, 0, id="two-constant"),
        pytest.param([7.0] * 4, [0.0] * 4, 1, 0, id="two-constant-of-other-values"),
        pytest.param([7.0, 7.0], [0.0, 5.0], 0, 0.5**0.5, id="constant-and-not"),
    ],
)
def test_two_maps_by_hand(a, b, cc, rmse):
    assert pair(a, b) == pytest.approx([cc, rmse], abs=1e-12)


def test_what_varies_by_rounding_alone_is_constant():
    # 1 + 2^-23 is the number after 1 in float32.
    rounded = torch.tensor([1.0, 1.0 + 2**-23, 1.0])
    assert scaled(rounded).tolist() == [0, 0, 0]
    assert scaled(torch.tensor([1.0, 1.001, 1.0])).tolist() == [0, 1, 0]


def test_the_best_match_is_the_highest_correlation_and_never_the_map_itself():
    # The first two are alike; the third is the first negated; the fourth is like none.
    maps = maps_by_hand([1.0, 0, 1, 0], [1.0, 0, 0.8, 0], [0.0, 1, 0, 1], [1.0, 1, 0, 0])
    cc, rmse = best_matches(scaled(maps))
    # Deviations (1, -1, 1, -1)/2 and (0.55, -0.45, 0.35, -0.45).
    alike = 0.9 / (1 * (0.55**2 + 0.45**2 + 0.35**2 + 0.45**2) ** 0.5)
    # The second map is the nearest to the fourth one: (0.55 - 0.45 - 0.35 + 0.45) / 2.
    last = 0.1 / (0.55**2 + 0.45**2 + 0.35**2 + 0.45**2) ** 0.5
    assert cc.flatten().tolist() == pytest.approx([alike, alike, 0, last])
    # Third and fourth, the only unrelated pair: half of the pixels differ by 1.
    by_hand = [0.1, 0.1, 0.5**0.5, ((1 + 0.64) / 4) ** 0.5]
    assert rmse.flatten().tolist() == pytest.approx(by_hand)


def scaled_by_loop(image):
    spread = image.max() - image.min()
    return (image - image.min()) / spread if spread else np.zeros_like(image)


def compare_by_loop(a, b):
    if a.any() and b.any():
        cc = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    else:
        cc = float(a.any() == b.any())
    return cc, np.sqrt(np.mean((a - b) ** 2))


def judged(output):
    """All pairs of both axes of an output (N, C, T, H, W), one by one in float64."""
    n, c, t = output.shape[:3]
    images = {i: scaled_by_loop(output[i]) for i in np.ndindex(n, c, t)}
    time = [
        compare_by_loop(images[i, k, a], images[i, k, b])
        for i in range(n)
        for a, b in pairwise(range(t))
        for k in range(c)
    ]
    # Of equal matches, as a constant map has, the first.
    channel = [
        max(
            (
                compare_by_loop(images[i, k, f], images[i, other, f])
                for other in range(c)
                if other != k
            ),
            key=itemgetter(0),
        )
        for i in range(n)
        for f in range(t)
        for k in range(c)
    ]
    return {"time": np.array(time), "channel": np.array(channel)}


@pytest.fixture
def output():
    """Two clips, 5 channels of 4 frames; some maps constant, some alike, some opposite."""
    output = torch.randn(2, 5, 4, 3, 6, generator=torch.Generator().manual_seed(0)).double()
    output[:, :, 2] = output[:, :, 1] + 0.1 * output[:, :, 2]
    output[:, 3] = 2 * output[:, 1] + 0.2 * output[:, 3]
    output[0, 4, 1] = -output[0, 4, 0]
    output[1, 2, :2] = 3.0
    output[1, 0, 1] = -1.0
    return output


def test_every_pair_is_what_a_double_loop_finds(output):
    maps = scaled(maps_of(output))
    for axis, (cc, rmse) in {"time": neighbours(maps), "channel": best_matches(maps)}.items():
        by_loop = judged(output.numpy())[axis]
        np.testing.assert_allclose(cc.flatten(), by_loop[:, 0], atol=1e-12)
        np.testing.assert_allclose(rmse.flatten(), by_loop[:, 1], atol=1e-12)


def test_the_summary_is_what_a_double_loop_finds(output):
    tally = LayerTally(Thresholds())
    tally.add(maps_of(output))
    summary = tally.summary()
    assert summary["maps"] == 40
    assert summary["constant"] == 3 / 40
    for axis, pairs in judged(output.numpy()).items():
        cc, rmse = pairs.T
        told = summary[axis]
        assert told["pairs"] == len(pairs) == {"time": 30, "channel": 40}[axis]
        assert told["cc"] == pytest.approx(cc.mean(), abs=1e-12)
        assert told["rmse"] == pytest.approx(rmse.mean(), abs=1e-12)
        redundant = np.mean((cc > 0.85) & (rmse > 0.001))
        assert told["rp"] == redundant
        assert 0 < redundant < 1
        # Rounding may put what is at the edge of a bin beside it, as CC 1 is not.
        expected = np.histogram(rmse, 100, (0, 1))[0]
        assert told["histograms"]["rmse"] == expected.tolist()
        expected = np.histogram(cc.clip(-1 + 1e-9, 1), 80, (-1, 1))[0]
        assert told["histograms"]["cc"] == expected.tolist()


def test_half_precision_is_compared_in_single_precision(output):
    half = output.bfloat16()
    assert neighbours(scaled(maps_of(half)))[0].dtype == torch.float32
    cc = neighbours(scaled(maps_of(half)))[0].flatten()
    by_loop = judged(half.double().numpy())["time"][:, 0]
    np.testing.assert_allclose(cc, by_loop, atol=1e-6)


@pytest.mark.parametrize("room", [1, 2 * 4 * 5 * 2, 2 * 4 * 5 * 3])
def test_best_matches_found_in_pieces_are_the_same(output, room):
    maps = scaled(maps_of(output))
    for whole, pieces in zip(best_matches(maps), best_matches(maps, room), strict=True):
        torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)


def test_clip_after_clip_gives_what_all_at_once_gives_in_the_same_room(output):
    at_once, one_by_one = LayerTally(Thresholds()), LayerTally(Thresholds())
    at_once.add(maps_of(output))
    for clip in output:
        one_by_one.add(maps_of(clip[None]))
    expected, came = at_once.summary(), one_by_one.summary()
    for axis in ("time", "channel"):
        assert came[axis].pop("histograms") == expected[axis].pop("histograms")
        assert came[axis] == pytest.approx(expected[axis], rel=1e-12)

    def size(tally):
        kept = [value for axis in (tally.time, tally.channel) for value in vars(axis).values()]
        return sum(value.numel() if isinstance(value, torch.Tensor) else 1 for value in kept)

    before = size(one_by_one)
    for _ in range(20):
        one_by_one.add(maps_of(output))
    assert size(one_by_one) == before < 400


@pytest.mark.parametrize(("rule", "share"), [("above", 1 / 5), ("below", 2 / 5), ("off", 4 / 5)])
def test_the_redundant_share_by_each_rule(rule, share):
    tally = Tally(Thresholds(cc=0.5, rmse=0.25, rmse_rule=rule))
    # One RMSE is the threshold itself, neither above nor below; one CC is.
    tally.add(torch.tensor([0.6, 0.9, 1.0, 0.8, 0.5]), torch.tensor([0.3, 0.2, 0.0, 0.25, 0.3]))
    assert tally.summary()["rp"] == share


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(cc=1.5), "cc is 1.5; wanted a correlation from -1 to 1"),
        (dict(rmse=-0.1), r"rmse is -0.1; wanted an error of maps in \[0, 1\]"),
        (dict(rmse_rule="over"), "rmse_rule is 'over'; wanted one of .*'above', 'below', 'off'"),
    ],
)
def test_thresholds_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(**settings)


def test_one_frame_has_no_pairs_in_time_and_one_channel_none_among_channels():
    tally = LayerTally(Thresholds())
    tally.add(maps_of(torch.rand(2, 1, 2, 3, 3)))
    # Two clips of two frames: one pair each.
    assert tally.summary()["time"]["pairs"] == 2
    assert tally.summary()["channel"]["pairs"] == 0
    assert tally.summary()["channel"]["cc"] is None
    tally = LayerTally(Thresholds())
    tally.add(maps_of(torch.rand(2, 4, 3, 3)))
    assert tally.summary()["time"]["rp"] is None
    assert tally.summary()["channel"]["pairs"] == 8


def test_rows_of_a_2d_network_are_frames_of_a_clip_or_images():
    rows = torch.arange(24.0).reshape(3, 2, 2, 2)
    assert maps_of(rows, rows_are_frames=True)[0, 2, 1].tolist() == [20, 21, 22, 23]
    assert maps_of(rows)[2, 0, 1].tolist() == [20, 21, 22, 23]
    clip = maps_of(rows.movedim(0, 1)[None])
    assert torch.equal(clip, maps_of(rows, rows_are_frames=True))


def test_values_that_are_not_finite_are_refused():
    tally = LayerTally(Thresholds())
    with pytest.raises(ValueError, match="values that are not finite, which correlate with nothi"):
        tally.add(torch.full((1, 1, 1, 4), torch.nan))


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
    report = study(model, config, samples=100, layers="[14]")
    assert report["samples"] == 10
    clips = torch.stack([ToyClips()[i]["inputs"] for i in range(10)])
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
        (("none.py", "--samples", "0"), "--samples is 0; wanted 1 or more"),
        (("empty.py", "--cc", "2"), "error: cc is 2.0; wanted a correlation"),
    ],
)
def test_what_cannot_be_told_is_refused(command, tmp_path, capsys, options, message):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(SystemExit) as refusal:
        command(*options)
    assert message in f"{refusal.value}{capsys.readouterr().err}"
