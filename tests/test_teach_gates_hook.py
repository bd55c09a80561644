"""Gates learn who loses most by the least: labels and losses by hand, and a training."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from vared_mm.engine import TeachGatesHook
from vared_mm.engine.around_forward import evaluating
from vared_mm.engine.correctness import label_losses
from vared_mm.engine.teach_gates_hook import gate_loss, price_of
from vared_mm.engine.told_gates import Asked, answering, axes_of
from vared_mm.method import (
    DynamicConfig,
    DynamicError,
    NoMatchingModuleError,
    VaRedConv2d,
    VaRedConv3d,
    make_dynamic,
)
from vared_mm.method.observe import dynamic_convs, record_cost

EVERY_STEP = dict(
    default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
    log_processor=dict(window_size=1),
)


@pytest.fixture
def start(tmp_path):
    """A checkpoint whose BatchNorm has learned statistics."""
    model = MODELS.build(dict(type="ToyRecognizer"))
    model(torch.randn(8, 2, 4, 6, 6))
    torch.save(model.state_dict(), tmp_path / "start.pth")
    return str(tmp_path / "start.pth")


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


def test_all_is_the_first_path_of_an_axis_and_the_least_the_last():
    model = nn.ModuleList([
        VaRedConv3d(2, 4, 1), VaRedConv3d(2, 4, 1, dynamic=dict(axes="time")),
        VaRedConv2d(2, 4, 1, dynamic=dict(search_space=3)),
    ])  # fmt: skip
    convs = dynamic_convs(model)
    assert axes_of(convs) == ["channel", "time"]
    clips, images = torch.randn(3, 2, 4, 5, 5), torch.randn(3, 2, 5, 5)
    with answering(convs, torch.tensor([[True, True], [True, False], [False, True]])):
        answers = [
            conv.gate(x).tolist() for conv, x in zip(model, (clips, clips, images), strict=True)
        ]
    assert answers == [
        [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]],
        [[1, 0], [0, 1], [1, 0]],
        [[1, 0, 0], [1, 0, 0], [0, 0, 1]],
    ]


def test_what_is_worth_most_per_mac_is_bought_with_a_part_of_the_macs():
    # Per MAC 4, 1, 0 and -2, for 0.5, 0.5, 0.25 and 0.25 of 1.5 that all of them save.
    lost, saved = torch.tensor([2.0, 0.5, 0.0, -0.5]), torch.tensor([0.5, 0.5, 0.25, 0.25])
    assert price_of(lost, saved, 0.4).item() == 2.5
    assert price_of(lost, saved, 0.7).item() == 0.5
    # Too little for any, and an axis of one frame, which saves nothing.
    assert price_of(lost, saved, 0.1).item() == 4
    assert price_of(torch.cat([lost, lost]), torch.cat([saved, 0 * saved]), 0.4).item() == 2.5


def test_a_sample_counts_by_how_far_it_is_from_the_price():
    hook = TeachGatesHook(open=0.25, window=4)
    # One of four is bought, at a price of 0.65; they are 0.55, 0.25, 0.45 and 0.25 away from it.
    gained = hook.gained(torch.tensor([[0.1], [0.4], [0.2], [0.9]]), torch.ones(1))
    wanted = [value / 0.375 for value in (-0.55, -0.25, -0.45, 0.25)]
    assert gained.flatten().tolist() == pytest.approx(wanted)
    # Of 0.2, 0.9, 0.0, 0.5 that is 0.9, at a price of 0.7.
    assert hook.gained(torch.tensor([[0.0], [0.5]]), torch.ones(1)).sign().tolist() == [[-1], [-1]]
    # One of ten counts no more than three.
    assert TeachGatesHook().gained(torch.tensor([[0.0]] * 9 + [[100]]), torch.ones(1)).max() == 3
    # Where nobody loses anything, nothing is asked for.
    assert TeachGatesHook().gained(torch.zeros(5, 2), torch.ones(2)).tolist() == [[0, 0]] * 5


def test_where_no_axis_saves_anything_there_is_nothing_to_teach():
    with pytest.raises(DynamicError, match="no axis of the network saves MACs on these samples"):
        TeachGatesHook().gained(torch.rand(4, 1), torch.zeros(1))


def test_gates_pay_for_the_first_and_the_last_path_that_are_otherwise():
    gate = VaRedConv2d(2, 4, 1, dynamic=dict(search_space=3)).gate
    z = torch.tensor([[1.0, 9.0, -1.0], [0.5, 9.0, 2.0]])
    # Its one axis is the second of the network's.
    gained = torch.tensor([[7.0, 3.0], [7.0, -0.5]])
    loss = gate_loss([Asked(gate, [1], z)], gained)
    all_, least = ([math.log1p(math.exp(v)) for v in pair] for pair in ((-2, -2), (1, -4)))
    assert loss.item() == pytest.approx((3 * sum(all_) + 0.5 * sum(least)) / 4)
    # Two views of each sample, and two gates.
    twice = [Asked(gate, [1], z.repeat_interleave(2, 0))] * 2
    assert gate_loss(twice, gained).item() == pytest.approx(loss.item())


def test_the_loss_of_a_sample_is_its_cross_entropy_over_its_views():
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [5.0, 0.0], [5.0, 0.0]])
    labels = [torch.tensor([1]), torch.tensor([0.0, 1.0])]
    sure = math.log1p(math.exp(-5)) + 5
    wanted = [-(math.log(0.75) + math.log(0.5)) / 2, sure]
    assert label_losses(scores, labels).tolist() == pytest.approx(wanted)


def toy_model():
    dynamic = dict(normalised=True, gate_bias=(0.8, -0.3))
    return MODELS.build(dict(type="ToyRecognizer", dynamic=dynamic))


def test_gates_answer_as_told_and_learn_from_their_own_loss_alone():
    model, clips = toy_model(), torch.randn(3, 2, 4, 6, 6)
    forced = torch.tensor([[True, True], [False, False], [False, True]])
    with answering(dynamic_convs(model), forced), record_cost(model) as record:
        model(clips)
    assert record.share(3).tolist() == pytest.approx([1, 0.25, 0.5])
    with answering(dynamic_convs(model), None) as logits:
        scores = model(clips)
    of_gates = [p for name, p in model.named_parameters() if ".gate." in name]
    others = [p for name, p in model.named_parameters() if ".gate." not in name]
    scores.square().sum().backward(retain_graph=True)
    assert all(p.grad is None for p in of_gates)
    weights = [p.grad.clone() for p in others if p.grad is not None]
    gate_loss(logits, 2.0 * forced - 1).backward()
    assert all(p.grad is not None for p in of_gates)
    same = zip(weights, (p.grad for p in others if p.grad is not None), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_measuring_leaves_the_network_and_its_statistics_as_they_are():
    model = toy_model()
    model.backbone[2].eval()
    samples = [BaseDataElement(gt_label=torch.tensor([i])) for i in range(3)]
    clips = torch.randn(3, 2, 4, 6, 6)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lost, saved = TeachGatesHook().lost(
        model, dict(inputs=clips, data_samples=samples, mode="loss")
    )
    assert model.training
    assert not model.backbone[2].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    model.eval()
    losses = []
    for opened in ((True, True), (False, True), (True, False)):
        forced = torch.tensor([opened]).expand(3, 2)
        with answering(dynamic_convs(model), forced), torch.no_grad():
            losses.append(
                nn.functional.cross_entropy(model(clips), torch.arange(3), reduction="none")
            )
    torch.testing.assert_close(lost, torch.stack(losses[1:], 1) - losses[0][:, None])
    assert saved.tolist() == pytest.approx([0.5, 0.5])


def test_what_is_open_is_drawn_and_then_chosen(tmp_path, start):
    # Three steps an epoch of 4, 4 and 2 of 10 clips; the first half of 8 epochs is drawn.
    runner = train(tmp_path, dict(draw=0.5, weight=5.0), epochs=8, load_from=start)
    rows = logged(runner)
    drawn = [row["mac_share"] for row in rows[:12]]
    # Shares of 1, 0.5 and 0.25 among four or two clips.
    steps = [round(16 * share, 3) for share in drawn]
    assert all(step % 1 == 0 for step in steps)
    assert len(set(steps)) > 1
    hook = next(hook for hook in runner.hooks if isinstance(hook, TeachGatesHook))
    assert len(hook.losses) == 40
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_what_a_hook_before_it_records_is_the_training_s_pass_alone(tmp_path, start):
    hooks = [dict(type="PolicyLogHook", interval=1), dict(type="TeachGatesHook", draw=1.0)]
    settings = toy.runner_settings(tmp_path, {}, hooks, load_from=start, **EVERY_STEP)
    settings["val_evaluator"] = settings["test_evaluator"] = dict(type="ToyAccuracy")
    runner = Runner(**settings)
    runner.train()
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    shares = [row for row in map(json.loads, lines) if "share/backbone.1" in row]
    # By the MACs of one value.
    told = [(108 * r["share/backbone.1"] + 8 * r["share/backbone.4"]) / 116 for r in shares]
    assert told == pytest.approx([row["mac_share"] for row in logged(runner)])


def test_a_training_that_goes_on_knows_what_samples_lost_before(tmp_path, start):
    first = train(tmp_path, {}, epochs=2, load_from=start)
    losses = [hook.losses for hook in first.hooks if isinstance(hook, TeachGatesHook)]
    assert len(losses[0]) == 10
    again = train(tmp_path, {}, epochs=2, resume=True)
    assert [h.losses for h in again.hooks if isinstance(h, TeachGatesHook)] == losses
    # As a start it is another training's.
    other = train(tmp_path / "other", {}, epochs=1, load_from=str(tmp_path / "epoch_2.pth"))
    assert len(next(h for h in other.hooks if isinstance(h, TeachGatesHook)).losses) == 6


def test_the_network_s_statistics_stay_and_its_gates_learn_theirs(tmp_path, start):
    # Two epochs with a validation after each, which puts the whole model back into training.
    model = train(tmp_path, {}, epochs=2, load_from=start).model
    loaded = torch.load(start)
    assert torch.equal(model.backbone[2].running_mean, loaded["backbone.2.running_mean"])
    assert not torch.equal(model.backbone[2].weight, loaded["backbone.2.weight"])
    assert model.backbone[1].gate.norm.num_batches_tracked == 6


def test_an_untrained_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 of 1 BatchNorms, as backbone.2, have learned no"):
        train(tmp_path, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(open=0), "open is 0; wanted a part of the samples between 0 and 1"),
        (dict(open=1), "open is 1; wanted"),
        (dict(weight=0), "weight is 0; wanted a number above 0"),
        (dict(draw=2), "draw is 2; wanted a part of the training"),
        (dict(interval=0), "interval=0, window=60; wanted whole numbers"),
        (dict(correct="top5"), "correct is 'top5'; wanted one of"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TeachGatesHook(**settings)


def test_it_stands_alone(tmp_path):
    hooks = [{"type": "TeachGatesHook"}, {"type": "EfficiencyLossHook"}]
    with pytest.raises(ValueError, match="leave one of them out of custom_hooks"):
        Runner(**toy.runner_settings(tmp_path, {}, hooks)).train()


def test_gates_that_no_gradient_reaches_are_refused(tmp_path, start):
    hooks = [{"type": "TeachGatesHook"}]
    settings = toy.runner_settings(tmp_path, {}, hooks, load_from=start)
    settings["model"]["checkpointing"] = "reentrant"
    with pytest.raises(DynamicError, match="loss_gates cannot reach the gate"):
        Runner(**settings).train()


def test_of_several_optimisers_each_steps_on_what_was_taught_and_on_nothing_else():
    hook, weight, gate = TeachGatesHook(), *(nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizers = [torch.optim.SGD([part], 0.25) for part in (weight, gate)]
    for taught, stepped in ((True, [0.75, 0.75]), (False, [0.5, 0.75])):
        weight.grad, gate.grad = torch.ones(1), torch.ones(1)
        hook._taught.update(optimizers * taught)
        for optimizer in optimizers:
            hook._leave_untaught({gate}, optimizer)
            optimizer.step()
        assert [weight.item(), gate.item()] == stepped


def test_the_followers_of_a_block_s_gate_do_as_it_is_told():
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1))
    make_dynamic(model, DynamicConfig(share="block", targets=r"(?P<block>)[01]", normalised=True))
    forced = torch.tensor([[False], [True]])
    with answering(dynamic_convs(model), forced) as logits, record_cost(model) as record:
        model(torch.randn(2, 2, 5, 5))
    assert len(logits) == 1
    assert record.share(2).tolist() == pytest.approx([0.5, 1])


def test_a_static_model_has_nothing_to_teach(tmp_path):
    with pytest.raises(NoMatchingModuleError, match="ToyRecognizer has no dynamic convolution"):
        Runner(**toy.runner_settings(tmp_path, None, [{"type": "TeachGatesHook"}])).train()


@pytest.mark.parametrize("gate", ["fixed", "random"])
def test_a_policy_that_was_fixed_is_trained_on_by_the_config_that_taught_it(tmp_path, gate):
    hooks = [{"type": "TeachGatesHook"}, {"type": "CostHook"}]
    runner = Runner(**toy.runner_settings(tmp_path, dict(gate=gate), hooks, **EVERY_STEP))
    runner.train()
    assert (
        "no gate of the model asks the input"
        in Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    )
    assert all("loss_gates" not in row for row in logged(runner))
    # BatchNorm learns, as one policy has one statistic.
    norms = [m for m in runner.model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert all(norm.running_mean.any() for norm in norms)


def test_what_could_teach_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="correct is 'always'; wanted one of .*top1"):
        TeachGatesHook(correct="always")
    runner = Runner(**toy.runner_settings(tmp_path, {}, [{"type": "TeachGatesHook"}]))
    for norm in runner.model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.fill_(0.1)
    for conv in dynamic_convs(runner.model).values():
        conv.gate.train = lambda mode=True: None
        conv.gate.eval()
        for part in conv.gate.modules():
            part.training = False
    with pytest.raises(DynamicError, match="no gate was asked in training.*norm_eval=False"):
        runner.train()


HOOKS = {
    "drawn": dict(type="TeachGatesHook", draw=1.0),
    "chosen": dict(type="TeachGatesHook", draw=0.0),
    "two targets": dict(type="EfficiencyLossHook", correct="always", ramp=0.0, target=(0.1, 0.9)),
}


@OPTIM_WRAPPERS.register_module(force=True)
class OtherThread(OptimWrapper):
    """Its backward pass is in another thread, as what autograd computes on a GPU."""

    def backward(self, loss, **settings):
        with ThreadPoolExecutor(1) as other:
            other.submit(super().backward, loss, **settings).result()


@pytest.mark.parametrize(
    ("hook", "wrapper"),
    [("drawn", "OptimWrapper"), ("chosen", "OtherThread"), ("two targets", "OtherThread")],
)
def test_a_step_with_activation_checkpointing_is_the_one_without(tmp_path, start, hook, wrapper):
    stepped = []
    for kind in (None, "without reentry"):
        settings = toy.runner_settings(
            tmp_path / str(kind),
            dict(normalised=True),
            [HOOKS[hook], dict(type="CostHook")],
            1,
            load_from=start,
        )
        settings["model"]["checkpointing"] = kind
        settings["randomness"] = dict(seed=0)
        settings["optim_wrapper"]["type"] = wrapper
        settings["train_dataloader"]["batch_size"] = toy.CLIPS
        runner = Runner(**settings)
        runner.train()
        stepped.append(dict(runner.model.named_parameters()))
    for name, stepped_to in stepped[0].items():
        torch.testing.assert_close(stepped[1][name], stepped_to)


class Looks(Hook):
    """Whether the network answers as another one of its weights does."""

    def __init__(self, model):
        self.model, self.same = dict(model), []

    def after_train_iter(self, runner, *args, **kwargs):
        clips, fresh = torch.randn(3, 2, 4, 6, 6), MODELS.build(dict(self.model)).eval()
        fresh.load_state_dict(runner.model.state_dict())
        with evaluating(runner.model), torch.no_grad():
            self.same.append(torch.equal(runner.model(clips), fresh(clips)))


def test_gates_are_told_in_the_passes_of_a_training_and_nowhere_else(tmp_path, start):
    hooks = [HOOKS["drawn"], dict(type="CostHook")]
    settings = toy.runner_settings(tmp_path, dict(normalised=True), hooks, load_from=start)
    looks, runner = Looks(settings["model"]), Runner(**settings)
    runner.register_hook(looks, priority="HIGHEST")
    runner.train()
    assert looks.same == [True] * 3


@MODELS.register_module(force=True)
class TwoPasses(toy.ToyRecognizer):
    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        losses = [self(**data, mode="loss") for _ in range(2)]
        optim_wrapper.update_params(sum(self.parse_losses(own)[0] for own in losses))
        return {}


def test_passes_that_cannot_be_told_from_each_other_are_refused(tmp_path, start):
    hooks = [HOOKS["drawn"], dict(type="CostHook")]
    settings = toy.runner_settings(tmp_path, dict(normalised=True), hooks, load_from=start)
    settings["model"] |= dict(type="TwoPasses", checkpointing="without reentry")
    with pytest.raises(DynamicError, match=r"2 passes of an iteration .* \(with_cp=False\)"):
        Runner(**settings).train()
