"""Gates learn what each sample needs: prices, labels and losses by hand, and a training."""

import json
import math
from pathlib import Path

import pytest
import torch
import toy
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from vared_mm.engine import TeachGatesHook
from vared_mm.engine.correctness import CORRECT, label_losses
from vared_mm.engine.teach_gates_hook import divergence, gate_loss, policies_of, price_for
from vared_mm.method import DynamicConfig, NoMatchingModuleError, make_dynamic
from vared_mm.method.observe import dynamic_convs

EVERY_STEP = dict(
    default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
    log_processor=dict(window_size=1),
)


def train(folder, hook, dynamic=None, epochs=1, **settings):
    hooks = [{"type": "TeachGatesHook", **hook}, {"type": "CostHook"}]
    dynamic = {"normalised": True, "gate_bias": (0.8, -0.3), **(dynamic or {})}
    runner = Runner(
        **toy.runner_settings(folder, dynamic, hooks, epochs, **{**EVERY_STEP, **settings})
    )
    runner.train()
    return runner


def logged(runner):
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss_cls" in row]


def convs_of(conv, **settings):
    model = nn.Sequential(conv)
    make_dynamic(model, DynamicConfig(**settings))
    return list(dynamic_convs(model).values())


def test_a_policy_opens_one_path_of_each_axis_and_the_first_computes_all():
    clips = convs_of(nn.Conv3d(2, 4, 1))
    assert policies_of(clips) == [(1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 0), (0, 1, 0, 1)]
    images = convs_of(nn.Conv2d(2, 4, 1), search_space=3)
    assert policies_of(images) == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    with pytest.raises(ValueError, match="wanted convolutions with the same axes"):
        policies_of(clips + images)


def test_the_price_is_the_least_at_which_the_mean_share_is_the_target():
    # Saving half costs the samples 0.1, 0.4, 0.2 and 0.8 of loss: prices of 0.2, 0.8, 0.4, 1.6.
    losses = torch.tensor([[0.0, 0.1], [0.0, 0.4], [0.0, 0.2], [0.0, 0.8]])
    shares = torch.tensor([1.0, 0.5])
    price = price_for(losses, shares, 0.75)
    assert price.item() == pytest.approx(0.4, abs=1e-3)
    assert (losses + price * shares).argmin(1).tolist() == [1, 0, 1, 0]
    assert price_for(losses, shares, 1.0).item() == pytest.approx(0, abs=1e-3)
    assert price_for(losses, shares, 0.5).item() == pytest.approx(1.6, abs=1e-3)


def test_gates_pay_for_paths_that_the_policy_has_otherwise():
    z = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    loss = gate_loss([z], [(1.0, 0.0), (0.0, 1.0)], torch.tensor([0, 1]))
    by_hand = [math.log1p(math.exp(v)) for v in (-2, -2, 1, -4)]
    assert loss.item() == pytest.approx(sum(by_hand) / 4)
    # Two views of each sample.
    twice = z.repeat_interleave(2, 0)
    again = gate_loss([twice, twice], [(1.0, 0.0), (0.0, 1.0)], torch.tensor([0, 1]))
    assert again.item() == pytest.approx(loss.item())


def test_the_divergence_is_that_of_probabilities():
    answer, full = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(answer, full).item() == pytest.approx(by_hand)
    assert divergence(full, full).item() == pytest.approx(0)


def test_the_loss_of_a_sample_is_its_cross_entropy_over_its_views():
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [5.0, 0.0], [5.0, 0.0]])
    labels = [torch.tensor([1]), torch.tensor([0.0, 1.0])]
    sure = math.log1p(math.exp(-5)) + 5
    wanted = [-(math.log(0.75) + math.log(0.5)) / 2, sure]
    assert label_losses(scores, labels).tolist() == pytest.approx(wanted)


def test_measuring_leaves_the_network_and_its_statistics_as_they_are():
    model = MODELS.build(dict(type="ToyRecognizer", dynamic=dict(normalised=True)))
    model.backbone[2].eval()
    samples = [BaseDataElement(gt_label=torch.tensor([i])) for i in range(3)]
    arguments = dict(inputs=torch.randn(3, 2, 4, 6, 6), data_samples=samples, mode="loss")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hook, policies = TeachGatesHook(0.5), policies_of(list(dynamic_convs(model).values()))
    chosen, shares, full = hook.measure(
        model, CORRECT["top1"](model), policies, arguments, [samples]
    )
    assert shares.tolist() == pytest.approx([1, 0.5, 0.5, 0.25])
    assert shares[chosen].mean() <= 0.5
    assert full[0].shape == (3, 3)
    assert model.training
    assert not model.backbone[2].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_training_brings_the_share_to_the_target_and_measures_every_other_step(tmp_path):
    settings = dict(target=0.5, explore=0.0, weight=5.0, window=1000)
    runner = train(tmp_path, settings, epochs=25)
    rows = logged(runner)
    hook = next(hook for hook in runner.hooks if isinstance(hook, TeachGatesHook))
    assert len(rows) == 75
    assert len(hook.measured) == 38
    assert rows[0]["mac_share"] == 1
    assert sum(row["mac_share"] for row in rows[-9:]) / 9 == pytest.approx(0.5, abs=0.15)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_policies_are_drawn_in_a_part_of_the_steps(tmp_path):
    rows = logged(train(tmp_path, dict(target=1.0, explore=0.5), epochs=2))
    shares = {round(row["mac_share"], 3) for row in rows[1::2]}
    assert shares <= {1.0, 0.5, 0.25}
    assert len(shares) > 1
    assert all(row["loss_distil"] == pytest.approx(0, abs=0.2) for row in rows[::2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(target=0), "target is 0; wanted a share above 0"),
        (dict(weight=-1.0), "weight=-1.0, distil=1.0; wanted 0 or more"),
        (dict(explore=2), "explore is 2; wanted a part"),
        (dict(interval=0), "interval=0, window=24; wanted 1 or more"),
        (dict(correct="top5"), "correct is 'top5'; wanted one of"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TeachGatesHook(**settings)


def test_a_static_model_has_nothing_to_teach(tmp_path):
    with pytest.raises(NoMatchingModuleError, match="has no dynamic convolution"):
        Runner(
            **toy.runner_settings(tmp_path, None, [{"type": "TeachGatesHook", "target": 0.5}])
        ).train()
