"""What each evaluated clip cost, by hand, and written beside the accuracy."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from mmengine.model import BaseTTAModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import CostMetric, SampleCost, summarise, together
from vared_mm.method import DynamicError
from vared_mm.method.observe import forced_gates, record_cost
from vared_mm.report.evaluation_samples import samples_from

DENSE = {"1": 8 * 4 * 27, "4": 8 * 8}  # MACs of the two dynamic convolutions for one position
STATIC = 4 * 2  # of the stem
POSITIONS = 4 * 36


def evaluated(tmp_path, **settings):
    hooks = [{"type": "CostHook"}] * settings.pop("hook", True)
    runner = Runner(**toy.runner_settings(tmp_path, dynamic={}, hooks=hooks, **settings))
    gate = runner.model.backbone[1].gate
    nn.init.normal_(gate.weight2, std=3, generator=torch.Generator().manual_seed(0))
    return runner, runner.test()


def test_the_report_is_that_of_every_clip_run_alone(tmp_path):
    runner, metrics = evaluated(tmp_path)
    dataset, model = runner.test_dataloader.dataset, runner.model.eval()
    shares, fulls = [], []
    for i in range(toy.CLIPS):
        clip = dataset[i]["inputs"][None]
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, record_cost(model) as record:
            model(clip)
        shares.append(record.share(1).item())
        fulls.append(counter.get_total_flops() / 2e9)
    assert len(set(shares)) > 1, "clips should differ"
    for name, values in (("share", shares), ("full_gmacs", fulls)):
        assert metrics[f"cost/{name}"] == pytest.approx(np.mean(values))
        assert metrics[f"cost/{name}_min"] == pytest.approx(min(values))
        assert metrics[f"cost/{name}_max"] == pytest.approx(max(values))
    dense = POSITIONS * (sum(DENSE.values()) + STATIC) + 8 * 3
    assert metrics["cost/dense_gmacs"] == pytest.approx(dense / 1e9)


def test_the_cost_of_each_layer_lies_beside_the_accuracy_as_json(tmp_path):
    runner, metrics = evaluated(tmp_path)
    report = json.loads(Path(runner.log_dir, "cost.json").read_text())
    assert report["metrics"] == metrics
    assert report["metrics"]["accuracy"] == metrics["accuracy"]
    layers = report["cost"]["layers"]
    assert [layer["name"] for layer in layers] == ["backbone.1", "backbone.4"]
    by_hand = [POSITIONS * macs / 1e9 for macs in DENSE.values()]
    assert [layer["dense_gmacs"] for layer in layers] == pytest.approx(by_hand)
    assert layers[1]["share"] == {"avg": 1.0, "min": 1.0, "max": 1.0}


def test_a_metric_without_its_hook_says_what_to_add(tmp_path):
    with pytest.raises(ValueError, match=r"add dict\(type='CostHook'\) to custom_hooks"):
        evaluated(tmp_path, hook=False)


def test_no_hook_stays_on_the_model(tmp_path):
    runner, _ = evaluated(tmp_path)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def cost(paper, views=1, static=10.0):
    table = np.array([100.0, 300.0]) * views
    return SampleCost(["a", "b"], table, np.array(paper, float), table / 2, static * views, views)


def test_average_minimum_and_maximum_by_hand():
    report = summarise([cost([100, 300]), cost([50, 150]), cost([100, 75])])
    assert report["share"] == pytest.approx(
        {"avg": (1 + 0.5 + 175 / 400) / 3, "min": 175 / 400, "max": 1}
    )
    gmacs = {"avg": (410 + 210 + 185) / 3e9, "min": 185e-9, "max": 410e-9}
    assert report["paper_gmacs"] == pytest.approx(gmacs)
    assert report["dense_gmacs"] == pytest.approx(410e-9)
    assert report["layers"][1]["share"] == pytest.approx({"avg": 7 / 12, "min": 0.25, "max": 1})


def test_a_convolution_that_a_sample_does_without_costs_nothing_there():
    # As a head of masks for an image in which no box is found; whichever sample comes first.
    mask = SampleCost(
        ["a", "b"], np.array([100.0, 300]), np.array([50.0, 150]), np.zeros(2), 10.0, 1,
        gates={"a": np.ones((1, 1, 2)), "b": np.ones((1, 1, 2))}, frames=[1, 1],
    )  # fmt: skip
    other = SampleCost(
        ["b"], np.array([300.0]), np.array([300.0]), np.zeros(1), 10.0, 1,
        gates={"b": np.ones((1, 1, 2))}, frames=[1],
    )  # fmt: skip
    for costs in ([mask, other], [other, mask]):
        report = summarise(costs)
        assert report["share"] == pytest.approx({"avg": 0.75, "min": 0.5, "max": 1})
        assert report["dense_gmacs"] == pytest.approx((410 + 310) / 2e9)
        layers = {layer["name"]: layer for layer in report["layers"]}
        assert layers["a"]["share"]["avg"] == 0.5
        assert layers["a"]["dense_gmacs"] == pytest.approx(50e-9)
        assert layers["b"]["share"]["avg"] == 0.75
        samples = samples_from(["x", "y"], [(-1, -1, 1.0, 0.0)] * 2, costs)
        assert sorted(samples.share) == [0.5, 1]
        assert np.isnan(samples.layer_share).sum() == 1
        assert samples.policies is None
        assert together(costs).totals["paper"] == 520


def test_views_of_a_video_count_as_their_mean():
    report = summarise([cost([200, 300], views=2)])
    assert report["share"]["avg"] == 500 / 800
    assert report["dense_gmacs"] == pytest.approx(410e-9)
    assert report["paper_gmacs"]["avg"] == pytest.approx(260e-9)


class Views(nn.Module):
    """As MMAction2's Recognizer3D: inputs (N, views, C, T, H, W), some views at a time."""

    def __init__(self):
        super().__init__()
        self.net = toy.ToyRecognizer(dynamic={}).backbone

    def forward(self, inputs, data_samples, mode):
        for part in inputs.flatten(0, 1).split(2):
            self.net(part)
        return data_samples


def test_views_that_run_in_parts_belong_to_their_video():
    model = Views().eval()
    end = around_forward(model, "predict", CostWatch(model))
    samples = [BaseDataElement()]
    inputs = torch.randn(1, 4, 2, 4, 6, 6)
    with torch.no_grad(), forced_gates(model, (0, 1, 0, 1)):
        model(inputs=inputs, data_samples=samples, mode="predict")
    end()
    (one,) = samples
    assert one.mac_cost.views == 4
    assert one.mac_cost.paper.tolist() == [4 * POSITIONS * macs / 4 for macs in DENSE.values()]
    assert one.mac_cost.static == 4 * POSITIONS * STATIC


class TwoStages(nn.Module):
    """Its second stage runs on as many regions as the first one finds."""

    def __init__(self):
        super().__init__()
        self.first, self.roi_head = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 5, bias=False)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        maps = self.first(inputs).flatten(2).transpose(1, 2)
        self.roi_head(maps[maps.mean(2) > 0])
        return data_samples


class Teacher(nn.Module):
    """As MMDetection's semi-supervised detectors hold one."""

    def __init__(self):
        super().__init__()
        self.teacher = TwoStages()

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return self.teacher(inputs, data_samples, mode)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["TwoStages", "Teacher"])
def test_what_a_second_stage_computes_is_counted_for_each_image(kind):
    torch.manual_seed(0)
    model, told, ran = globals()[kind](), [], []
    around_forward(model, "predict", CostWatch(model))
    for image in torch.randn(3, 1, 3, 4, 4):
        with FlopCounterMode(display=False) as counter:
            (sample,) = model(image, [BaseDataElement()], mode="predict")
        told.append(sample.mac_cost.totals["full"])
        ran.append(counter.get_total_flops() / 2)
    assert told == ran
    assert len(set(told)) > 1


def test_a_static_model_has_share_one_and_its_dense_cost():
    one = SampleCost([], np.zeros(0), np.zeros(0), np.zeros(0), 2e9, 1)
    report = summarise([one])
    assert report["share"]["avg"] == 1
    assert report["dense_gmacs"] == report["full_gmacs"]["avg"] == 2


def test_a_cost_is_pickled_as_plain_values_and_read_by_the_metric():
    one = cost([100, 300])
    plain = pickle.loads(pickle.dumps(one))
    assert plain == dict(names=["a", "b"], dense=[100.0, 300.0], paper=[100.0, 300.0],
                         full=[50.0, 150.0], static=10.0, views=1, pixels=None,
                         gates={}, zeros=0.0, frames=[])  # fmt: skip
    assert b"vared_mm" not in pickle.dumps(one)
    assert copy.deepcopy(one) is one
    metric = CostMetric()
    assert metric.compute_metrics([plain, one]) == metric.compute_metrics([one, one])


def test_the_metric_alone_collects_what_the_samples_carry():
    metric = CostMetric()
    metric.process(None, [{"mac_cost": cost([100, 300])}, {"mac_cost": cost([50, 150])}])
    assert metric.evaluate(2)["cost/share"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x, samples: model(x, samples, "predict"),
        lambda model, x, samples: model(x, samples, mode="predict"),
        lambda model, x, samples: model(inputs=x, data_samples=samples, mode="predict"),
    ],
    ids=["positions", "a keyword", "keywords"],
)
def test_the_cost_is_told_however_the_inputs_are_given(call):
    model = toy.ToyRecognizer(dynamic={}).eval()
    around_forward(model, "predict", CostWatch(model))
    with torch.no_grad():
        (sample,) = call(model, torch.randn(1, 2, 4, 6, 6), [BaseDataElement()])
    assert sample.mac_cost.dense.tolist() == [POSITIONS * macs for macs in DENSE.values()]


class Modalities(toy.ToyRecognizer):
    def forward(self, inputs, data_samples=None, mode="tensor"):
        forward = super().forward
        answers = [forward(x, data_samples, mode) for x in inputs.values()]
        return answers[0]


def test_the_cost_of_two_modalities_is_that_of_both():
    model = Modalities(dynamic={}).eval()
    around_forward(model, "predict", CostWatch(model))
    clip = torch.randn(2, 2, 4, 6, 6)
    with torch.no_grad():
        first, second = model(
            dict(a=clip, b=-clip), [BaseDataElement(), BaseDataElement()], "predict"
        )
    assert first.mac_cost.dense.tolist() == [2 * POSITIONS * macs for macs in DENSE.values()]
    assert second.mac_cost.static == 2 * (POSITIONS * STATIC + 8 * 3)


def test_predictions_that_hold_no_cost_are_refused_by_their_type():
    class Plain(toy.ToyRecognizer):
        def forward(self, inputs, data_samples=None, mode="tensor"):
            return super().forward(inputs)

    model = Plain(dynamic={}).eval()
    around_forward(model, "predict", CostWatch(model))
    with torch.no_grad(), pytest.raises(DynamicError, match="wants a list of them .* came Tensor"):
        model(torch.randn(1, 2, 4, 6, 6), mode="predict")


@MODELS.register_module()
class FlippedToo(BaseTTAModel):
    def merge_preds(self, lists):
        return [BaseDataElement(gt_label=a.gt_label, pred=a.pred + b.pred) for a, b in lists]


@DATASETS.register_module()
class TwoViews(toy.ToyClips):
    def prepare_data(self, index):
        data = super().prepare_data(index)
        clip, sample = data["inputs"], data["data_samples"]
        return {"inputs": [clip, clip.flip(-1)], "data_samples": [sample, sample.clone()]}


def test_under_test_time_augmentation_a_sample_costs_what_its_views_do_on_average(tmp_path):
    _, metrics = evaluated(tmp_path / "one")
    settings = toy.runner_settings(tmp_path / "two", hooks=[dict(type="CostHook")])
    settings["model"] = dict(type="FlippedToo", module=dict(type="ToyRecognizer", dynamic={}))
    settings["test_dataloader"]["dataset"] = dict(type="TwoViews")
    runner = Runner(**settings)
    gate = runner.model.module.backbone[1].gate
    nn.init.normal_(gate.weight2, std=3, generator=torch.Generator().manual_seed(0))
    augmented = runner.test()
    # A gate that pools over a clip answers the same to its mirror image.
    for name in ("cost/share", "cost/full_gmacs", "cost/full_gmacs_max"):
        assert augmented[name] == pytest.approx(metrics[name])
    assert "merge_preds" not in vars(runner.model)


class HeadOfBoxes(toy.ToyRecognizer):
    """Its head decides for each of three boxes, two of which are of the first image."""

    def __init__(self):
        super().__init__({})
        self.roi_head, self.backbone = self.backbone, nn.Identity()

    def forward(self, inputs, data_samples=None, mode="tensor"):
        self.roi_head(inputs[[0, 0, -1]])
        return data_samples


@torch.no_grad()
def test_boxes_are_not_divided_among_the_images_of_a_batch():
    model = HeadOfBoxes().eval()
    around_forward(model, "predict", CostWatch(model))
    clips, samples = torch.randn(3, 2, 4, 6, 6), [BaseDataElement() for _ in range(3)]
    (told,) = model(clips[:1], samples[:1], mode="predict")
    with record_cost(model) as record:
        model.roi_head(clips[[0, 0, 0]])
    assert told.mac_cost.full.sum() == record.per_layer(1)["full"].sum()
    with pytest.raises(DynamicError, match="one image at a time .batch_size=1., not 3"):
        model(clips, samples, mode="predict")
