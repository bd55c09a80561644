"""AR-Net: what runs is what was chosen, answers and costs as if all had run, and it trains."""

import math
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.fast.prepare import prepare_for_inference
from vared_mm.flops import bounds
from vared_mm.method import DynamicError
from vared_mm.models import arnet
from vared_mm.rivals.frame_policy import uneven_use

CONFIGS = Path(__file__).parent.parent / "configs"
SIZES, ACTIONS = (16, 12, 8), 5


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmaction")
    yield
    DefaultScope._instance_dict.clear()


@MODELS.register_module()
class FrameNet(nn.Sequential):
    def __init__(self, channels):
        super().__init__(
            nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, 2, 1),
        )  # fmt: skip


def settings(**changed):
    model = dict(
        type="ARNet",
        policy=dict(type="FrameNet", channels=2),
        backbones=[dict(type="FrameNet", channels=8), dict(type="FrameNet", channels=4)],
        cls_head=dict(type="FramesHead", num_classes=4, dropout_ratio=0.0),
        sizes=SIZES,
        skips=(1, 2),
        hidden=6,
    )
    return {**model, **changed}


def model_of(**changed):
    torch.manual_seed(0)
    model = MODELS.build(settings(**changed))
    # So that clips differ in what they choose.
    nn.init.normal_(model.policy.cell.weight_ih, std=30)
    nn.init.normal_(model.policy.scores.weight, std=20)
    for fc in model.cls_head.fc_cls:
        nn.init.normal_(fc.weight)
    return model.eval()


def clips(n=6, frames=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    brightness = 2 * torch.randn(n, frames, 1, 1, 1, generator=generator)
    return brightness + torch.randn(n, frames, 3, 16, 16, generator=generator)


def samples(labels):
    from mmaction.structures import ActionDataSample

    return [ActionDataSample().set_gt_label(label) for label in labels]


def one_hot(*clips):
    return torch.eye(ACTIONS)[torch.tensor(clips)]


def choosing(model, choices):
    return model.policy.register_forward_hook(lambda *_: choices)


def random_choices(n, frames, seed):
    generator = torch.Generator().manual_seed(seed)
    choices = torch.eye(ACTIONS)[torch.randint(ACTIONS, (n, frames), generator=generator)]
    first = torch.eye(ACTIONS)[torch.randint(len(SIZES), (n,), generator=generator)]
    return torch.cat([first[:, None], choices[:, 1:]], 1)


def test_what_was_chosen_answers_as_everything_run_and_selected():
    model = model_of()
    for seed in range(40):
        inputs, choices = clips(4, 1 + seed % 7, seed), random_choices(4, 1 + seed % 7, seed)
        frames = inputs.flatten(0, 1)
        hook = choosing(model, choices)
        with torch.no_grad():
            came = model(inputs)
            small = model.policy_backbone(nn.functional.interpolate(
                frames, (8, 8), mode="bilinear", antialias=True)).mean((2, 3))  # fmt: skip
            everything = model.cls_head(model.every_frame(frames, small, choices), choices)
        hook.remove()
        torch.testing.assert_close(came, everything, rtol=1e-4, atol=1e-5)


def test_each_backbone_runs_once_on_its_frames_alone_and_not_at_all_without_any():
    model, seen = model_of(), []
    for i, net in enumerate(model.backbones):
        net.register_forward_hook(lambda m, args, out, i=i: seen.append((i, *args[0].shape)))
    choices = one_hot([0, 3, 1, 0], [0, 2, 4, 4])
    hook = choosing(model, choices)
    model(clips(2, 4))
    assert seen == [(0, 3, 3, 16, 16), (1, 1, 3, 12, 12)]
    hook.remove()
    seen.clear()
    choosing(model, one_hot([2, 3, 2, 2], [2, 2, 4, 4]))
    model(clips(2, 4))
    assert seen == []


def test_the_logits_are_the_mean_of_the_frames_that_are_kept():
    model = model_of()
    inputs = clips(1, 3)
    with torch.no_grad():
        choosing(model, one_hot([0, 4, 4]))
        one = model(inputs)
        features = model.backbones[0](inputs[:, 0]).mean((2, 3))
        torch.testing.assert_close(one, model.cls_head.fc_cls[0](features))


def test_each_clip_is_told_what_ran_for_it_as_if_it_had_been_alone():
    model = model_of()
    inputs = clips()
    end = around_forward(model, "predict", CostWatch(model))
    with torch.no_grad():
        told = [
            one.mac_cost for one in model(inputs, samples(range(4)) + samples([0, 1]), "predict")
        ]
    end()
    assert len({float(cost.full.sum()) for cost in told}) > 2, "clips should differ"
    for clip, cost in zip(inputs, told, strict=True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(clip[None])
        assert cost.static + cost.full.sum() == counter.get_total_flops() / 2
        # 8 channels of 3·9 weights on 8² and 16 of 8·9 on 4² positions, 16 x 4 of the classifier.
        assert cost.dense.tolist() == [5 * (8 * 27 * 64 + 16 * 72 * 16 + 64)]
        assert cost.paper.tolist() == cost.full.tolist()
        assert cost.names == ["backbones"]


def test_the_ends_of_the_cost_are_all_frames_at_the_largest_and_at_the_smallest_size():
    model = MODELS.build(settings(data_preprocessor=dict(
        type="ActionDataPreprocessor", format_shape="NCHW"))).eval()  # fmt: skip
    report = bounds(model, (5, 16, 16))
    static = 5 * (2 * 27 * 16 + 4 * 18 * 4 + 4 * 6 * (4 + 6) + 6 * 5)
    assert report["dense_gmacs"] * 1e9 == pytest.approx(static + 5 * 32320)
    assert report["paper_gmacs"]["max"] * 1e9 == pytest.approx(static + 5 * 32320)
    assert report["paper_gmacs"]["min"] * 1e9 == pytest.approx(static + 5 * 4 * 4)


def test_evaluation_chooses_the_same_again_unless_it_is_told_to_draw():
    model, inputs = model_of(), clips(8, 9)
    assert torch.equal(model(inputs), model(inputs))
    model.draws_in_test = True
    torch.manual_seed(1)
    nn.init.zeros_(model.policy.scores.weight)
    assert not torch.equal(model(inputs), model(inputs))


def test_the_loss_is_cross_entropy_cost_and_use_in_the_paper_s_weights():
    model = model_of(cost_unit=100.0).train()
    choices = random_choices(6, 5, 3)
    choosing(model, choices)
    labels = [0, 1, 2, 3, 0, 1]
    losses = model(clips(), samples(labels), "loss")
    logits = model(clips())
    assert losses["loss_cls"].item() == pytest.approx(
        0.95 * cross_entropy(logits, torch.tensor(labels)).item(), rel=1e-4
    )
    # Of 8 and 4 channels at 16² and 12² pixels, without classifiers.
    costs = [(8 * 27 * 64 + 16 * 72 * 16) / 100, (4 * 27 * 36 + 8 * 36 * 9) / 100, 0, 0, 0]
    mean = (choices * torch.tensor(costs)).sum(2).mean().item()
    assert losses["loss_cost"].item() == pytest.approx(0.05 * mean, rel=1e-5)
    assert losses["loss_usage"].item() == pytest.approx(0.15 * uneven_use(choices).item())


def test_every_parameter_has_a_gradient_whatever_is_chosen():
    model = model_of().train()
    losses = model(clips(2, 1), samples([0, 1]), "loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("changed", "told"), [
    (dict(sizes=(16, 16, 8)), r"sizes=\(16, 16, 8\); wanted two or more, from the largest down"),
    (dict(sizes=(16, 8)), r"2 backbones came for the sizes \(16, 8\); wanted 1, one for each"),
    (dict(skips=(1, 1)), "each another number; wanted whole numbers from 1 up"),
    (dict(skips=(0,)), "wanted whole numbers from 1 up"),
    (dict(efficiency_weight=1.0), "efficiency_weight is 1.0; wanted 0 or more, below 1"),
    (dict(epochs=0), "epochs is 0; wanted a number above 0"),
    (dict(cls_head=dict(type="FramesHead", num_classes=1)), "num_classes is 1; wanted 2 or more"),
    (dict(policy=dict(type="VaRedResNet", depth=18)), "has a gate: the cost of ARNet's actions"),
    (dict(policy=dict(type="CGNetResNet", depth=18)), "has a gate: the cost of ARNet's actions"),
    (dict(policy=dict(type="R2Plus1d18")), r"take frames \(1, 3, 8, 8\).*R2Plus1d18 does not"),
    (dict(cls_head=dict(type="TSNHead", num_classes=4)), "wanted a dict of type FramesHead"),
    (dict(efficiency_weight="a"), "efficiency_weight is 'a'; wanted 0 or more, below 1"),
    (dict(hidden=0), "hidden is 0; wanted a number above 0"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        MODELS.build(settings(**changed))


@pytest.mark.parametrize(("shape", "call", "told"), [
    ((1, 1, 3, 5, 16, 16), {}, r"2-D frames \(N, T, 3, 16, 16\).*came \(1, 1, 3, 5, 16, 16\)"),
    ((1, 5, 3, 16, 12), {}, r"of the first of its sizes; came \(1, 5, 3, 16, 12\)"),
    ((1, 0, 3, 16, 16), {}, r"came \(1, 0, 3, 16, 16\)"),
    ((1, 5, 1, 16, 16), {}, r"came \(1, 5, 1, 16, 16\)"),
    ((1, 5, 3, 16, 16), dict(mode="guess"), "mode='guess' is none of"),
    ((1, 5, 3, 16, 16), dict(stage="backbone"), "there is stage='head' alone"),
    ((1, 5, 3, 16, 16), dict(mode="loss"), "mode='loss' needs data_samples"),
    ((1, 5, 3, 16, 16), dict(mode="loss", data_samples="label 7"), r"gt_label \[7\]; wanted one"),
])  # fmt: skip
def test_inputs_that_do_not_fit_are_refused(shape, call, told):
    if call.get("data_samples"):
        call = {**call, "data_samples": samples([7])}
    with pytest.raises(ValueError, match=told):
        model_of()(torch.zeros(shape), **call)


def test_a_checkpoint_of_other_skips_is_refused():
    with pytest.raises(DynamicError, match=r"skips=\(1, 4\), and the model has skips=\(1, 2\)"):
        model_of().load_state_dict(model_of(skips=(1, 4)).state_dict())


def test_the_prepared_network_answers_alike():
    model, inputs = model_of(), clips()
    with torch.no_grad():
        prepared = prepare_for_inference(model, inputs)
        torch.testing.assert_close(prepared(inputs), model(inputs), rtol=1e-3, atol=1e-4)


@DATASETS.register_module()
class FrameClips(BaseDataset):
    def load_data_list(self):
        return [{"index": i} for i in range(8)]

    def prepare_data(self, index):
        (sample,) = samples([index % 4])
        return {"inputs": clips(8)[index] + index, "data_samples": sample}


def run(tmp_path, epochs, **changed):
    one = dict(data_preprocessor=dict(type="ActionDataPreprocessor", format_shape="NCHW"))
    given = toy.runner_settings(tmp_path, hooks=[dict(type="CostHook")], epochs=epochs)
    for part in ("train", "val", "test"):
        given[f"{part}_dataloader"]["dataset"] = dict(type="FrameClips")
    evaluators = [dict(type="AccMetric"), dict(type="CostMetric")]
    given |= dict(model=settings(**one), val_evaluator=evaluators, test_evaluator=evaluators)
    given |= dict(default_scope="mmaction", experiment_name=uuid.uuid4().hex)
    return Runner(**(given | changed))


@pytest.mark.parametrize(("step", "epoch"), [(2, 1), (18, 0)])
def test_the_temperature_stays_within_its_epoch_where_steps_were_counted_by_other_batches(
    monkeypatch, step, epoch
):
    told = dict(iter=step, max_iters=20, epoch=epoch, max_epochs=2)
    hub = SimpleNamespace(get_info=told.get)
    monkeypatch.setattr(arnet.MessageHub, "get_current_instance", lambda: hub)
    assert MODELS.build(settings()).tau == pytest.approx(5 * math.exp(-0.045 * 60))


def test_it_trains_in_half_precision_goes_on_and_tells_accuracy_and_cost(tmp_path):
    amp = dict(optim_wrapper=dict(type="CpuAmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1)))
    first = run(tmp_path, 1, **amp)
    before = first.model.policy.scores.weight.detach().clone()
    first.train()
    assert not torch.equal(first.model.policy.scores.weight, before)
    second = run(tmp_path, 2, resume=True, load_from=str(tmp_path / "epoch_1.pth"), **amp)
    second.train()
    # Two of four steps were done, and τ is that of the last one: 120 · 3/4 epochs.
    assert second.message_hub.get_scalar("train/tau").current() == pytest.approx(
        5 * torch.tensor(-0.045 * 90).exp().item(), rel=1e-4
    )
    metrics = second.test()
    assert 0 <= metrics["acc/top1"] <= 1
    assert 0 <= metrics["cost/share_min"] <= metrics["cost/share"] <= metrics["cost/share_max"] <= 1
    assert metrics["cost/full_gmacs"] == metrics["cost/paper_gmacs"]


def test_the_paper_s_has_62_741_991_parameters_and_costs_66_gmacs_all_at_224():
    config = Config.fromfile(CONFIGS / "recognition/_base_/recognizer_arnet.py")
    with torch.device("meta"):
        model = MODELS.build(config.model)
    # ResNet-50, -34, -18 and MobileNetV2 without classifiers, as published; four classifiers,
    # an LSTM of 512 units on 1280 features, 7 actions.
    networks = 23_508_032 + 21_284_672 + 11_176_512 + 2_223_872
    classifiers = sum(200 * (channels + 1) for channels in (2048, 512, 512, 1280))
    policy = 4 * 512 * (1280 + 512 + 2) + 7 * 513
    assert sum(p.numel() for p in model.parameters()) == networks + classifiers + policy
    assert 62.6e6 < networks + classifiers + policy < 63.0e6
    assert model.costs == [4.087136256, 2.24443904, 0.484847616, 0, 0, 0, 0]
