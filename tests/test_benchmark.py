"""Forced shares, the engines' agreement, and the command line, on a network small enough."""

import json
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.registry import MODELS
from results_by_hand import result_of, samples_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from two_scenes import AUGMENTED, SEGMENTOR, scenes

from vared_mm.compat import config_path
from vared_mm.fast import benchmark as measuring
from vared_mm.fast.benchmark import benchmark, measure, timed_batch
from vared_mm.fast.cases import cases_of, share_named, usual_shares
from vared_mm.fast.engines import RIVALS, EngineError, Network
from vared_mm.fast.forced_shares import (
    choices_of,
    everything_open,
    forced,
    plan_for,
    sample_of_plan,
)
from vared_mm.fast.prepare import prepare_for_inference
from vared_mm.fast.sides import DifferentFunctionError, Settings, refuse_difference, sides
from vared_mm.fast.static_twin import static_twin
from vared_mm.flops import build_model
from vared_mm.method.observe import dynamic_convs, record_cost
from vared_mm.speed import Speed

SHAPE = (8, 32, 32)
SETTINGS = Settings(shape=SHAPE, shares=("0.6",), batches=(2,), repeats=1, warm_up=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MODELS.build(dict(type="VaRedInceptionI3d", width=0.125)).eval()


@pytest.fixture(scope="module")
def block_model():
    torch.manual_seed(0)
    model = MODELS.build(dict(type="VaRedX3D", gamma_w=1, gamma_b=1, gamma_d=1))
    model.eval()
    return model


def reached(model, plan, x):
    """Share of all MACs by the paper's formula, per sample, counted while it runs."""
    with forced(model) as follow, record_cost(model) as record, torch.no_grad():
        follow(plan)
        model(x)
    costs = record.per_layer(len(x))
    return (costs["paper"].sum(1) / costs["dense"].sum(1)).tolist(), record


@pytest.mark.parametrize("share", [0.47, 0.6, 0.9])
def test_a_plan_reaches_its_share_to_a_hundredth_for_every_sample(model, share):
    x = torch.randn(3, 3, *SHAPE)
    choices = choices_of(model, lambda: model(x[:1]))
    # All convolutions of this network are dynamic: dense is the whole network.
    dense = sum(choice.dense for choice in choices)
    alike, record = reached(model, plan_for(choices, dense, share, 3, alike=True), x)
    different, other = reached(model, plan_for(choices, dense, share, 3, alike=False), x)
    assert alike == pytest.approx([share] * 3, abs=0.01)
    assert different == pytest.approx([share] * 3, abs=0.01)
    for _, _, gates, _ in record.seen:
        assert (gates == gates[0]).all()
    unlike = [gates for _, _, gates, _ in other.seen if not (gates == gates[0]).all()]
    assert len(unlike) > len(other.seen) / 3


def test_what_is_beyond_reach_ends_at_the_nearest_end(model):
    x = torch.randn(1, 3, *SHAPE)
    choices = choices_of(model, lambda: model(x))
    dense = sum(choice.dense for choice in choices)
    least = sum(min(choice.macs.values()) for choice in choices) / dense
    for share, end in ((0.0, least), (1.0, 1.0)):
        got, _ = reached(model, plan_for(choices, dense, share, 1, alike=True), x)
        assert got == pytest.approx([end])


def test_the_convolutions_of_a_block_choose_together(block_model):
    x = torch.randn(1, 3, *SHAPE)
    choices = choices_of(block_model, lambda: block_model(x))
    assert [len(choice.names) for choice in choices] == [3] * 11
    plan = plan_for(choices, 1.5 * sum(c.dense for c in choices), 0.8, 1, alike=True)
    for choice in choices:
        rows = [plan[name].tolist() for name in choice.names]
        assert rows == [rows[0]] * 3


def test_a_forced_gate_is_computed_all_the_same(model):
    x = torch.randn(1, 3, *SHAPE)
    choices = choices_of(model, lambda: model(x))
    asked = []
    norms = [conv.gate.norm for conv in dynamic_convs(model).values()]
    handles = [norm.register_forward_hook(lambda *_: asked.append(1)) for norm in norms]
    with forced(model) as follow, torch.no_grad():
        follow(everything_open(choices, 1))
        model(x)
    for handle in handles:
        handle.remove()
    assert len(asked) == 57
    assert not any(conv.gate._forward_hooks for conv in dynamic_convs(model).values())


def test_a_sample_of_a_plan_keeps_its_own_rows():
    plan = {"conv": torch.arange(12.0).view(6, 2)}
    # Two frames of each of three samples.
    assert sample_of_plan(plan, 1, 3)["conv"].tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_cases_tell_the_share_of_the_whole_network(block_model):
    x = torch.randn(2, 3, *SHAPE)
    with torch.no_grad():
        cases = {
            case.name: case for case in cases_of(block_model, x, ["0.9", "min", "all", "data"])
        }
        with record_cost(block_model) as record:
            block_model(x[:1])
        twin = static_twin(block_model)
        with FlopCounterMode(display=False) as counter:
            twin(x[:1])
    assert list(cases) == [
        "0.9, alike", "0.9, different", "min, alike", "all open", "as the data wants",
    ]  # fmt: skip
    total, dense = counter.get_total_flops() / 2, float(record.per_layer(1)["dense"].sum())
    assert cases["all open"].share == 1
    assert cases["0.9, alike"].share == pytest.approx(0.9, abs=0.02)
    # A quarter of what can choose, but for the rounding of odd channels and single frames.
    assert cases["min, alike"].share == pytest.approx(1 - 0.75 * dense / total, abs=0.03)


def test_the_papers_share_is_known_for_its_three_backbones(model):
    assert share_named("paper", model) == 0.47
    assert share_named("0.25", model) == 0.25
    with pytest.raises(ValueError, match="no share for Conv2d, only for .* --share 0.6"):
        share_named("paper", nn.Conv2d(1, 1, 1))
    assert usual_shares(model) == ("paper", "min", "all")
    for other in ("half", "nan", "1.5", "-1"):
        with pytest.raises(ValueError, match=f"numbers like 0.6, up to 1; came '{other}'"):
            share_named(other, model)


def test_a_backbone_that_the_paper_has_not_is_measured_at_the_other_shares(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(measuring, "measure", lambda *args: asked.append(args[2].shares) or [])
    benchmark(scenes(tmp_path), None, Settings(shape=(32, 32), batches=(1,)))
    assert asked == [("min", "all")]


def test_a_table_of_layers_is_of_as_many_samples_as_there_were(tmp_path, monkeypatch):
    for name in ("measure", "layers_beside"):
        monkeypatch.setattr(measuring, name, lambda *args: [])
    settings = Settings(shape=None, batches=(8,), layers_beside=True)
    # Two pictures.
    assert list(benchmark(scenes(tmp_path), None, settings)["layers_beside"]) == [2]


def test_rows_hold_the_clocks_figures_and_what_follows_from_them(model, monkeypatch):
    def slow_motion(clocks, clips, repeats):
        rate = {"static": 10.0, "dynamic": 15.0}
        return {side: Speed(rate[side[0]], 5.0, 20.0) for side in clocks}

    monkeypatch.setattr("vared_mm.fast.benchmark.in_turn", slow_motion)
    with torch.no_grad():
        static, alike, different, apart = measure(
            model, torch.randn(2, 3, *SHAPE), replace(SETTINGS, mixed=True)
        )
    assert (static.network, static.gates, static.speedup, static.share) == ("static", "", 1.0, 1.0)
    assert (alike.ms, alike.ms_quartiles) == (pytest.approx(2000 / 15), (100.0, 400.0))
    assert alike.speedup == 1.5
    assert alike.ideal == pytest.approx(1 / 0.6, rel=0.02)
    assert alike.efficiency == pytest.approx(1.5 * 0.6, rel=0.02)
    assert apart.gates == "0.6, different, one by one"
    assert apart.share == different.share


def test_sides_that_compute_something_else_are_not_compared(model, monkeypatch):
    torch.manual_seed(0)
    with pytest.raises(DifferentFunctionError, match="the static network in X answers something"):
        refuse_difference("the static network in X", torch.ones(2), torch.tensor([1.0, 1.1]))
    monkeypatch.setitem(RIVALS, "eager", lambda network, example: lambda x: 2 * network(x))
    with torch.no_grad(), pytest.raises(DifferentFunctionError, match="in eager"):
        sides("eager", model, torch.randn(1, 3, *SHAPE), SETTINGS, (), ExitStack())


def test_an_engine_that_cannot_take_the_network_is_named_with_its_reason(model, monkeypatch):
    def refuse(network, example):
        raise NotImplementedError("no operator\n  for VaRedConv3d")

    monkeypatch.setitem(RIVALS, "openvino", refuse)
    told = r"openvino cannot take this \w+: NotImplementedError: no operator for VaRedConv3d"
    with pytest.raises(EngineError, match=told):
        sides("openvino", model, torch.randn(1, 3, *SHAPE), SETTINGS, (), ExitStack())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_that_is_missing_names_its_package(engine, monkeypatch):
    for module in ("onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    network, x = Network(nn.Conv2d(1, 1, 1)), torch.ones(1, 1, 2, 2)
    with pytest.raises(EngineError, match=rf"{engine} cannot be imported .*vared_mm\[speed\]"):
        RIVALS[engine](network, x)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_other_engines_compute_the_static_network(engine):
    pytest.importorskip(engine)
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU()).eval())
    x = torch.randn(2, 2, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(RIVALS[engine](network, x)(x), network(x), atol=1e-5, rtol=1e-4)


def test_the_prepared_network_follows_the_same_plan(model):
    x = torch.randn(2, 3, *SHAPE)
    choices = choices_of(model, lambda: model(x[:1]))
    plan = plan_for(choices, sum(c.dense for c in choices), 0.5, 2, alike=False)
    prepared = prepare_for_inference(model, x)
    with forced(model) as follow, forced(prepared) as follow_fast, torch.no_grad():
        follow(plan)
        follow_fast(plan)
        expected = model(x)
        assert (prepared(x) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_model_of_one_channel_is_timed():
    config = Config.fromfile(config_path("segmentation/fcn/fcn_r18w16-d8_1xb8-300_scenes-96x96.py"))
    config.merge_from_dict({
        "model.backbone.in_channels": 1, "model.data_preprocessor.mean": [110.0],
        "model.data_preprocessor.std": [57.0],
    })  # fmt: skip
    (row,) = benchmark(config, None, replace(SETTINGS, shape=(32, 32), batches=(1,)))["rows"]
    assert (row["network"], row["precision"]) == ("static", "float32")


def test_a_model_that_wants_boxes_is_named_before_it_is_timed():
    from mmengine.hub import get_config

    config = get_config("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py")
    for train in (False, True):
        settings = replace(SETTINGS, shape=(64, 64), batches=(1,), train=train)
        with pytest.raises(ValueError, match="FasterRCNN does not run .* wants boxes"):
            benchmark(config, None, settings)


@pytest.mark.parametrize("share", ["paper", "most"])
def test_shares_that_say_nothing_of_the_network_are_refused_before_anything_is_timed(
    share, monkeypatch
):
    config = Config.fromfile(config_path(SEGMENTOR))
    monkeypatch.setattr(measuring, "layers_beside", lambda *args: pytest.fail("timed"))
    settings = replace(SETTINGS, shape=(32, 32), shares=("0.6", share), layers_beside=True)
    with pytest.raises(ValueError, match=f"no share for ResNetV1c|came {share!r}"):
        benchmark(config, None, settings)


POINTS = dict(
    type="PointHead", in_channels=[16], in_index=[0], channels=8, num_fcs=1, num_classes=5,
    coarse_pred_each_layer=True,
)  # fmt: skip
RATES = {"median": 2.0, "low": 1.0, "high": 3.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(
            {"model.test_cfg": dict(mode="slide", crop_size=(24, 32), stride=(8, 8))},
            "windows of 24 x 32, .*over 32 x 32; vared-mm benchmark --shape 24 32",
            id="windows",
        ),
        pytest.param(
            {"test_dataloader.dataset.pipeline": AUGMENTED},
            "augments each sample .* prediction is several passes",
            id="augmentations",
        ),
        pytest.param(
            {"model.type": "CascadeEncoderDecoder", "model.num_stages": 2,
             "model.auxiliary_head": None,
             "model.train_cfg": {}, "model.backbone.out_indices": (0, 3)},
            "second stage wants points; count it on its own data by vared-mm get-flops --data N$",
            id="points",
        ),
    ],
)  # fmt: skip
def test_a_model_that_predicts_by_no_single_pass_has_no_speed(options, told, tmp_path, capsys):
    config = scenes(tmp_path, **options)
    if config.model.type == "CascadeEncoderDecoder":
        head = dict(config.model.decode_head, in_index=1)
        config.model.decode_head = [head, POINTS]
    model, evaluation = build_model(config), tool_of("evaluate")
    with pytest.raises(ValueError, match=told):
        timed_batch(model, config, 2)
    # What a former version told of it is no longer told.
    former = result_of(
        samples_of(["a.jpg"], [0], [], np.ones(1)), speed=dict(static=RATES, conditions={})
    )
    args = SimpleNamespace(batch=2, engine="prepared", repeats=1)
    assert evaluation.with_speed(former, model, config, args).speed is None
    assert re.search(told, capsys.readouterr().out.strip())


def test_a_window_as_large_as_the_pictures_is_one_pass(tmp_path):
    slide = dict(mode="slide", crop_size=(32, 48), stride=(8, 8))
    config = scenes(tmp_path, **{"model.test_cfg": slide})
    assert timed_batch(build_model(config), config, 2).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--batch", "0"), "--batch: wanted a whole number from 1 on; came '0'"),
        (("--repeats", "0"), "--repeats: wanted a whole number from 1 on"),
        (("--warm-up", "-1"), "--warm-up is -1; wanted 0 or more"),
        (("--threads", "0"), "--threads: wanted a whole number from 1 on"),
    ],
)
def test_numbers_that_time_nothing_are_refused(option, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "config.py", *option])
    with pytest.raises(SystemExit):
        tool_of("benchmark").parsed()
    assert message in capsys.readouterr().err


def test_a_whole_config_is_measured_in_bfloat16_too():
    config = Config.fromfile(config_path("recognition/vared_i3d_k400.py"))
    config.model.backbone.width = 0.125
    config.model.cls_head.in_channels = 128
    settings = replace(SETTINGS, batches=(1,), shares=("paper", "all"), precision="bf16")
    report = benchmark(config, None, settings)
    assert [row["gates"] for row in report["rows"]] == ["", "paper, alike", "all open"]
    # The head is the one part that cannot choose.
    assert report["rows"][1]["share"] == pytest.approx(0.47, abs=0.01)
    assert report["conditions"]["decoding"] == "not included"
    assert report["conditions"]["inputs"] == "random"


def test_the_command_line_prints_a_table_and_writes_the_numbers(tmp_path, monkeypatch, capsys):
    result = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", [
        "benchmark.py", config_path("recognition/vared_i3d_k400.py"),
        "--shape", "8", "32", "32", "--batch", "1", "--share", "0.6", "--against", "eager",
        "--repeats", "1", "--warm-up", "0", "--threads", "1", "--json", str(result), "--layers",
        "--cfg-options", "model.backbone.width=0.125", "model.cls_head.in_channels=128",
    ])  # fmt: skip
    tool_of("benchmark").main()
    report = json.loads(result.read_text())
    assert [(row["network"], row["engine"]) for row in report["rows"]] == [
        ("static", "prepared"), ("static", "eager"), ("dynamic", "prepared"),
    ]  # fmt: skip
    assert {row["precision"] for row in report["rows"]} == {"float32"}
    assert report["conditions"]["processes"].startswith("one for each engine")
    assert len(report["layers"]["1"]) == 57
    assert "decoding: not included" in " ".join(capsys.readouterr().out.split())
