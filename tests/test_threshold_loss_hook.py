"""CGNet's threshold loss in a training, by hand, with what is logged, kept and warned of."""

import json
from pathlib import Path

import pytest
import toy
from mmengine.registry import MODELS
from mmengine.runner import Runner

from vared_mm.engine import ThresholdLossHook, threshold_loss_hook
from vared_mm.method import NoMatchingModuleError
from vared_mm.rivals.cgnet import CGNetConfig, channel_gated, make_cgnet


@MODELS.register_module()
class GatedToy(toy.ToyRecognizer):
    def __init__(self, cgnet=None, start=None, **settings):
        super().__init__(**settings)
        make_cgnet(self.backbone, CGNetConfig(targets="[14]", **(cgnet or {})))
        for conv in channel_gated(self).values():
            conv.gate.threshold.data += start or 0.0


def runner_of(tmp_path, weight=1e-4, model=None, **settings):
    hooks = [{"type": "ThresholdLossHook", "weight": weight}, {"type": "CostHook"}]
    model = {"type": "GatedToy", **(model or {})}
    every_step = dict(
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        log_processor=dict(window_size=1),
    )
    told = toy.runner_settings(tmp_path, hooks=hooks, model=model, **every_step, **settings)
    return Runner(**told)


def logged(runner):
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss_cls" in row]


def test_the_loss_is_the_squared_distance_of_all_thresholds_and_nothing_stays_behind(tmp_path):
    runner = runner_of(tmp_path, weight=0.1, model=dict(start=0.5))
    runner.train()
    first = logged(runner)[0]
    # 8 and 8 channels, each 0.5 away.
    assert first["loss_threshold"] == pytest.approx(0.1 * 16 * 0.25)
    assert first["loss"] == pytest.approx(first["loss_cls"] + first["loss_threshold"])
    assert 0.25 < first["mac_share"] < 1
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_it_pulls_the_thresholds_to_the_target(tmp_path):
    runner = runner_of(tmp_path, weight=5.0, model=dict(start=0.5), epochs=3)
    runner.train()
    for conv in channel_gated(runner.model).values():
        assert (conv.gate.threshold - 1.0).abs().max() < 0.1


def test_a_test_tells_the_share_by_formula_and_that_all_runs(tmp_path):
    metrics = runner_of(tmp_path, model=dict(cgnet=dict(threshold=0.0))).test()
    assert 0.25 < metrics["cost/share"] < 1
    assert metrics["cost/full_gmacs"] == metrics["cost/dense_gmacs"]
    dense = 4 * 36 * (8 * 4 * 27 + 8 * 8)
    spared = (1 - metrics["cost/share"]) * dense / 1e9
    assert metrics["cost/paper_gmacs"] == pytest.approx(metrics["cost/full_gmacs"] - spared)


def test_a_training_goes_on_with_the_thresholds_it_was_left_with(tmp_path):
    still = dict(optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.0)))
    runner_of(tmp_path / "first", model=dict(start=0.7), **still).train()
    left = str(tmp_path / "first" / "epoch_1.pth")
    rest = runner_of(tmp_path / "rest", epochs=2, load_from=left, resume=True, **still)
    rest.train()
    assert rest.epoch == 2
    assert len(logged(rest)) == 3
    for conv in channel_gated(rest.model).values():
        assert conv.gate.threshold.tolist() == pytest.approx([1.7] * 8)


def test_weight_decay_on_thresholds_and_norms_that_learn_nothing_are_warned_of(
    tmp_path, monkeypatch
):
    told = []
    monkeypatch.setattr(threshold_loss_hook, "print_log", lambda text, *_: told.append(text))
    decay = dict(optimizer=dict(type="SGD", lr=0.01, weight_decay=0.1))
    runner = runner_of(tmp_path, optim_wrapper=decay)
    train = type(runner.model).train

    def norms_kept(model, mode=True):
        train(model, mode)
        model.backbone[1].gate.norm.eval()
        return model

    monkeypatch.setattr(GatedToy, "train", norms_kept)
    runner.train()
    assert told[0].startswith("2 thresholds have weight decay")
    assert told[1].startswith("the BatchNorm of 1 of 2 gates, as that of backbone.1, learns no")


@pytest.mark.parametrize("dynamic", [None, {}], ids=["static", "dynamic"])
def test_a_model_without_such_convolutions_is_refused(tmp_path, dynamic):
    hooks = [{"type": "ThresholdLossHook"}]
    runner = Runner(**toy.runner_settings(tmp_path, dynamic=dynamic, hooks=hooks))
    with pytest.raises(NoMatchingModuleError, match="ToyRecognizer has no convolution of CGNet"):
        runner.train()


@pytest.mark.parametrize("weight", [-1, float("nan"), "1e-4"])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=f"weight is {weight!r}; wanted 0 or more"):
        ThresholdLossHook(weight=weight)
