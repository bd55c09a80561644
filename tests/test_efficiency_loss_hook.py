"""The efficiency loss reaches the model's losses, by hand and in every way of training."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from vared_mm.engine import EfficiencyLossHook, efficiency_loss_hook
from vared_mm.engine.efficiency_loss_hook import warn_of_decay
from vared_mm.engine.merged_groups import refuse_other_groups
from vared_mm.files import write_json
from vared_mm.latency_table import LayerLatency
from vared_mm.method import DynamicError, NoMatchingModuleError, VaRedConv3d
from vared_mm.method.cost import CostRecord, Pass
from vared_mm.method.observe import record_cost


def train(tmp_path, hook=None, **settings):
    hooks = [{"type": "EfficiencyLossHook", "correct": "always", "ramp": 0.0, **(hook or {})}]
    hooks.append({"type": "CostHook"})
    settings = {"dynamic": {}, "hooks": hooks, **settings}
    runner = Runner(**toy.runner_settings(tmp_path, **settings))
    runner.train()
    return runner


def logged(runner):
    """One dict for each training iteration that was logged."""
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss_cls" in row]


every_step = dict(
    default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
    log_processor=dict(window_size=1),
)


def test_the_first_step_pays_for_all_that_is_computed_and_nothing_stays_behind(tmp_path):
    runner = train(tmp_path, {"weight": 3.0}, **every_step)
    first = logged(runner)[0]
    assert first["mac_share"] == 1.0
    assert first["loss_efficiency"] == pytest.approx(3.0)  # 3 · 1²
    assert first["loss"] == pytest.approx(first["loss_cls"] + 3.0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_the_weight_rises_over_its_part_of_the_training(tmp_path):
    hook = {"weight": 3.0, "ramp": 2 / 3}
    runner = train(tmp_path, hook, epochs=3, **every_step)
    rows = logged(runner)  # 9 steps; the ramp is over after 6
    rates = [row["loss_efficiency"] / row["mac_share"] ** 2 for row in rows]
    by_hand = [3 * min(1, step / 6) for step in range(9)]
    # The mean of squares is the square of the mean while all clips compute the same.
    assert rates == pytest.approx(by_hand, rel=0.05, abs=1e-6)


def test_the_weight_rises_on_where_a_training_goes_on_with_other_batches(tmp_path, monkeypatch):
    one = lambda share, *_: 1 + 0 * share.sum()  # noqa: E731
    monkeypatch.setattr(efficiency_loss_hook, "efficiency_loss", one)
    train(tmp_path, epochs=2)
    loader = {**toy.runner_settings(tmp_path)["train_dataloader"], "batch_size": 2}
    settings = dict(epochs=4, resume=True, train_dataloader=loader, **every_step)
    rates = [row["loss_efficiency"] for row in logged(train(tmp_path, {"ramp": 1.0}, **settings))]
    # Five steps in each of the last two of four epochs, in place of three.
    # Both may have begun in one second, and then have one log.
    assert rates[-10:] == pytest.approx([5 * (2 + step / 5) / 4 for step in range(10)])


def test_a_target_share_asks_for_nothing_below_it(tmp_path):
    runner = train(tmp_path, {"target": 1.0}, **every_step)
    assert all(row["loss_efficiency"] == 0 for row in logged(runner))


def test_of_two_targets_one_between_is_drawn_for_each_batch_and_gates_open_as_far(
    tmp_path, monkeypatch
):
    draws = iter([0.0, 0.25, 1.0])
    monkeypatch.setattr(torch, "rand", lambda size: torch.tensor(next(draws)))
    # Gates begin at 0.8 and 0.3: of the first, which computes all, a shift of -1 leaves nothing.
    shares, targets = [], []
    monkeypatch.setattr(
        efficiency_loss_hook, "efficiency_loss",
        lambda share, correct, target: (shares.append(share.mean().item()), targets.append(target),
                                        0 * share.sum())[-1],
    )  # fmt: skip
    runner = train(tmp_path, {"target": (0.2, 0.6)})
    assert targets == pytest.approx([0.2, 0.3, 0.6])
    assert shares[0] == 0.25
    assert shares[2] == 1.0
    assert not any(m._forward_hooks for m in runner.model.modules())


def test_a_policy_that_was_fixed_has_nothing_to_shift(tmp_path):
    assert logged(train(tmp_path, {"target": (0.2, 0.6)}, dynamic=dict(gate="fixed"), **every_step))


def test_the_loss_closes_the_gates(tmp_path):
    runner = train(tmp_path, {"weight": 30.0}, epochs=8)
    assert runner.message_hub.get_scalar("train/mac_share").current() < 1
    betas = [m.gate.beta for m in runner.model.modules() if hasattr(m, "gate")]
    assert all(beta[0] < 0.8 for beta in betas)


def latency_file(folder, halves_of_the_first):
    """Two layers of the toy; the second saves by its halves."""
    first = dict(zip(itertools.product((8, 4), (1, 2)), halves_of_the_first, strict=True))
    second = dict(zip(itertools.product((8, 4), (1, 2)), (2.0, 1.2, 1.2, 0.7), strict=True))
    layers = LayerLatency("backbone.1", 4.0, 0.1, first), LayerLatency("backbone.4", 2, 0.1, second)
    file = folder / "speed.json"
    write_json(file, {"layers": {1: [layer.as_json() for layer in layers]}})
    return str(file)


def test_a_layer_whose_halves_take_longer_stays_open_where_macs_alone_would_close_it(tmp_path):
    def shares(**hook):
        hook = {"weight": 30.0, **hook}
        folder = tmp_path / hook.get("cost", "macs")
        runner = train(folder, hook, epochs=8, model={"loss_weight": 0.0}, **every_step)
        clips = torch.stack([runner.train_dataloader.dataset[i]["inputs"] for i in range(4)])
        with record_cost(runner.model.eval()) as record, torch.no_grad():
            runner.model(clips)
        return {p.name: p.share.mean().item() for p in record.passes}, logged(runner)

    by_macs, rows = shares()
    assert by_macs["backbone.1"] < 1
    assert "latency_share" not in rows[0]
    table = latency_file(tmp_path, (4.0, 5.0, 4.5, 6.0))
    by_time, rows = shares(cost="latency", table=table)
    assert by_time["backbone.1"] == 1
    assert by_time["backbone.4"] < 1
    assert rows[0]["latency_share"] == rows[0]["mac_share"] == 1
    assert rows[0]["loss_efficiency"] == pytest.approx(30)
    # All clips agree by the last step: of 6 ms, 4 stay and the other 2 are one of its choices.
    assert 6 * rows[-1]["latency_share"] - 4 == pytest.approx(0.7, abs=0.01)


def test_the_table_of_another_model_is_refused_before_the_training(tmp_path):
    table = latency_file(tmp_path, (4.0, 5.0, 4.5, 6.0))
    message = r"backbone\.1 chooses among .* as of another search_space"
    with pytest.raises(DynamicError, match=message):
        train(tmp_path, dict(cost="latency", table=table), dynamic=dict(search_space=3))


def test_only_clips_that_are_right_pay(tmp_path):
    runner = train(tmp_path, {"correct": "top1", "weight": 1.0}, **every_step)
    steps_paid = [row["loss_efficiency"] for row in logged(runner)]
    # 4, 4 and 2 clips: every step pays the share of its clips that is right, a multiple of 1/4.
    assert all(math.isclose(4 * paid, round(4 * paid), abs_tol=1e-5) for paid in steps_paid)
    assert any(paid < 1 for paid in steps_paid)


sgd = dict(type="SGD", lr=0.05)
WAYS = {
    "plain": {},
    "bf16 amp": dict(optim_wrapper=dict(type="CpuAmpOptimWrapper", optimizer=sgd)),
    "gradient accumulation": dict(optim_wrapper=dict(accumulative_counts=2, optimizer=sgd)),
    "activation checkpointing": dict(model=dict(checkpointing="without reentry")),
}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_the_efficiency_loss_alone_closes_gates_in_every_way_of_training(tmp_path, settings):
    settings = dict(settings)
    model = {"loss_weight": 0.0, **settings.pop("model", {})}
    runner = train(tmp_path, {"weight": 5.0}, model=model, **settings)
    beta = runner.model.backbone[1].gate.beta
    # The share of the widest path falls with its gate; the last path is what is left, and moves
    # only as far as the next layer's gate looks at this one's output.
    assert (beta[[0, 2]] < 0.75).all()
    assert (beta[[1, 3]] - 0.3).abs().max() < 1e-5


def test_reentrant_checkpointing_is_refused_as_the_loss_could_not_reach_the_gates(tmp_path):
    with pytest.raises(DynamicError, match="use_reentrant=False"):
        train(tmp_path, model=dict(checkpointing="reentrant"))


def test_a_static_model_is_refused(tmp_path):
    with pytest.raises(NoMatchingModuleError, match="ToyRecognizer has no dynamic convolution"):
        train(tmp_path, dynamic=None)


def test_decay_on_the_bias_of_the_gates_is_warned_of(tmp_path):
    optimizer = dict(type="SGD", lr=0.05, weight_decay=1e-4)
    runner = train(tmp_path, optim_wrapper=dict(optimizer=optimizer))
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert "2 gates have weight decay on their bias" in log
    free = dict(custom_keys={"gate.beta": dict(decay_mult=0.0)})
    other = train(tmp_path / "b", optim_wrapper=dict(optimizer=optimizer, paramwise_cfg=free))
    assert "weight decay on their bias" not in next(Path(other.log_dir).glob("*.log")).read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(weight=-1), "weight is -1"),
        (dict(target=2), "between 0 and 1"),
        (dict(target=(0.8, 0.3)), "two, the lower one first"),
        (dict(target=(0.3, "a")), "between 0 and 1"),
        (dict(weight="5"), "weight is '5'"),
        (dict(weight=float("inf")), "weight is inf"),
        (dict(correct=[]), r"correct is \[\]"),
        (dict(ramp=-0.1), "part of the training"),
        (dict(cost="energy"), r"wanted one of \('macs', 'latency'\)"),
        (dict(cost="latency"), r"cost='latency' with the file that vared-mm benchmark"),
        (dict(table="speed.json"), r"cost='macs' came with table='speed.json'"),
        (
            dict(cost="latency", table="gone.json"),
            r"no latency table gone.json; measure with vared-mm",
        ),
        (dict(batch="5"), "batch is '5'; wanted a batch size"),
        (dict(batch=-1), "batch is -1"),
        (dict(batch=float("nan")), "batch is nan"),
        (dict(correct="top5"), r"wanted one of \['always', .*'top1'\]"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EfficiencyLossHook(**settings)


def test_a_training_by_iterations_with_validation_and_averaged_weights(tmp_path):
    loop = dict(type="IterBasedTrainLoop", max_iters=6, val_interval=2)
    ema = dict(type="EMAHook", momentum=0.1)
    hooks = [{"type": "EfficiencyLossHook", "correct": "always", "ramp": 0.5, "weight": 5.0},
             dict(type="CostHook"), dict(type="ProgressBarHook"), ema]  # fmt: skip
    settings = dict(train_cfg=loop, log_processor=dict(by_epoch=False, window_size=1))
    settings["default_hooks"] = dict(logger=dict(type="LoggerHook", interval=1))
    runner = train(tmp_path, hooks=hooks, **settings)
    rows = logged(runner)
    assert len(rows) == 6
    rates = [row["loss_efficiency"] / row["mac_share"] ** 2 for row in rows]
    assert rates == pytest.approx([0, 5 / 3, 10 / 3, 5, 5, 5], rel=0.05)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


def test_a_training_that_failed_leaves_no_hook_to_the_next(tmp_path):
    settings = toy.runner_settings(
        tmp_path, dynamic={}, hooks=[dict(type="EfficiencyLossHook"), dict(type="CostHook")]
    )
    runner = Runner(**settings)
    head, forward = runner.model.cls_head, runner.model.cls_head.forward
    head.forward = lambda features: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.train()
    head.forward = forward
    runner.train()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runner.model.modules())


@MODELS.register_module()
class OwnStep(toy.ToyRecognizer):
    """A recogniser whose training step asks for its losses by `way`."""

    def __init__(self, way, **settings):
        super().__init__(**settings)
        self.way = way

    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            losses = WAYS_TO_THE_LOSS[self.way](self, self.data_preprocessor(data, True))
        total, log = self.parse_losses(losses)
        optim_wrapper.update_params(total)
        return log

    def loss(self, inputs, data_samples):
        return toy.ToyRecognizer.forward(self, inputs, data_samples, "loss")


WAYS_TO_THE_LOSS = {
    "keywords": lambda model, data: model(**data, mode="loss"),
    "positions": lambda model, data: model(data["inputs"], data["data_samples"], "loss"),
    "loss": lambda model, data: model.loss(**data),
    "forward": lambda model, data: model.forward(**data, mode="loss"),
}


@pytest.mark.parametrize("way", ["keywords", "positions"])
def test_the_loss_is_added_however_the_mode_is_told(tmp_path, way):
    runner = train(tmp_path, model=dict(type="OwnStep", way=way), **every_step)
    assert logged(runner)[0]["loss_efficiency"] == pytest.approx(5)


@pytest.mark.parametrize("way", ["loss", "forward"])
@pytest.mark.parametrize("hook", ["EfficiencyLossHook", "PolicyLogHook"])
def test_a_step_that_goes_past_the_hooks_is_told_of_in_the_first_iteration(tmp_path, way, hook):
    hooks = [dict(type=hook)]
    with pytest.raises(DynamicError, match=rf"{hook} acts on OwnStep\(..., mode='loss'\)"):
        train(tmp_path, model=dict(type="OwnStep", way=way), hooks=hooks)


def record_of(*rows, names=("a", "b")):
    """Passes of two convolutions, all open, one for each of `rows`."""
    conv = VaRedConv3d(2, 4, 1)
    return CostRecord(
        [Pass(name, conv, torch.full((n, 4), 0.5), (n, 4, 1, 1, 1)) for n in rows for name in names]
    )


def test_batches_that_run_one_after_the_other_have_each_their_record():
    parts = record_of(2, 3).split([2, 3])
    assert [samples for _, samples in parts] == [2, 3]
    assert [[len(p.gates) for p in part.seen] for part, _ in parts] == [[2, 2], [3, 3]]
    ((whole, samples),) = record_of(5).split([2, 3])
    assert samples == 5
    assert whole.share(samples).tolist() == [1.0] * 5


@MODELS.register_module()
class SeveralBatches(toy.ToyRecognizer):
    """Takes a tuple of batches, as MMAction2's loops of several loaders hand over."""

    def forward(self, *batches, mode="tensor"):
        parts = [super(SeveralBatches, self).forward(**batch, mode=mode) for batch in batches]
        return {f"{name}_{i}": v for i, part in enumerate(parts) for name, v in part.items()}


@pytest.mark.parametrize("correct", ["always", "top1"])
def test_several_batches_at_once_pay_for_all_their_samples(correct):
    model = SeveralBatches(dynamic={})
    batches = [
        dict(
            inputs=torch.randn(n, 2, 4, 6, 6),
            data_samples=[BaseDataElement(gt_label=torch.tensor([0])) for _ in range(n)],
        )
        for n in (2, 3)
    ]
    hook = EfficiencyLossHook(correct=correct, weight=1.0, ramp=0.0)
    hook.before_train(SimpleNamespace(model=model, cfg={}, optim_wrapper=None, hooks=[hook]))
    nn.init.zeros_(model.cls_head.weight)
    model.cls_head.bias.data = torch.tensor([1.0, 0.0, 0.0])
    losses = model(*batches, mode="loss")
    assert {"loss_cls_0", "loss_cls_1"} < set(losses)
    assert losses["loss_efficiency"].item() == pytest.approx(1)


def test_gates_whose_norm_the_backbone_keeps_in_evaluation_are_told_of(tmp_path, monkeypatch):
    hooks = [dict(type="EfficiencyLossHook"), dict(type="CostHook")]
    runner = Runner(**toy.runner_settings(tmp_path, dynamic={}, hooks=hooks))
    norm = runner.model.backbone[4].gate.norm
    monkeypatch.setattr(norm, "train", lambda mode=True: nn.Module.train(norm, False))
    runner.train()
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("BatchNorm of 1 of 2 gates, as that of backbone.4, stays as it is") == 1


def test_decay_is_looked_for_in_every_wrapper_of_a_dict(monkeypatch):
    net = nn.ModuleList([VaRedConv3d(2, 4, 1), nn.Linear(2, 2)])
    several = {
        str(i): OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.1, weight_decay=0.1))
        for i, part in enumerate(net)
    }
    wrapper = OptimWrapperDict(**several)
    told = []
    monkeypatch.setattr(efficiency_loss_hook, "print_log", lambda text, *_: told.append(text))
    warn_of_decay(net, wrapper)
    assert told[0].startswith("1 gates have weight decay on their bias")
    refuse_other_groups(wrapper, net)
    one, other = (several[key].optimizer.state_dict() for key in "01")
    with pytest.raises(ValueError, match="1 groups of 2 parameters, this one 1 of"):
        several["0"].optimizer.load_state_dict(other)
    several["0"].optimizer.load_state_dict(one)


def test_gates_that_are_frozen_are_told_of(tmp_path):
    hooks = [dict(type="EfficiencyLossHook"), dict(type="CostHook")]
    runner = Runner(**toy.runner_settings(tmp_path, dynamic={}, hooks=hooks))
    runner.model.backbone[1].requires_grad_(False)
    runner.train()
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("1 of 2 gates are frozen and cannot learn, as that of backbone.1") == 1


def test_two_compiled_trainings_of_a_process_have_each_their_loss(tmp_path):
    plain = dict(cfg=dict(compile=dict(backend="eager")))
    hooks = [dict(type="CostHook")]
    Runner(**toy.runner_settings(tmp_path / "a", dynamic={}, hooks=hooks, **plain)).train()
    runner = train(tmp_path / "b", **plain, **every_step)
    assert all("loss_efficiency" in row for row in logged(runner))


def test_a_training_resumed_with_other_groups_is_told_what_differs(tmp_path):
    train(tmp_path)
    other = dict(optimizer=sgd, paramwise_cfg=dict(bias_lr_mult=2.0))
    with pytest.raises(ValueError, match=r"has 1 groups of 24 parameters, this one 24 of 24"):
        train(tmp_path, optim_wrapper=other, resume=True, epochs=2)
