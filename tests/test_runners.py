"""A run refuses a checkpoint, a schedule and a metric that are not its own, or tells of them."""

import re

import pytest
import torch
import toy
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS, METRICS

from vared_mm import weights
from vared_mm.rivals.ghost import GhostConfig, make_ghost
from vared_mm.runners import CheckedRunner, TrainingRunner, refuse_lacking

COST = [dict(type="CostHook")]


def model(**dynamic):
    return toy.ToyRecognizer(dynamic=dynamic or None)


class Augmented(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


class Renamed(Hook):
    def after_load_checkpoint(self, runner, checkpoint):
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.removeprefix("old."): v for name, v in state.items()}


def loaded(folder, state, hooks=(), wrap=lambda settings: settings):
    torch.save(dict(state_dict=state), folder / "w.pth")
    settings = toy.runner_settings(folder, dynamic={}, hooks=[dict(type="CostHook")])
    settings["model"] = wrap(settings["model"])
    runner = CheckedRunner(**settings, load_from=str(folder / "w.pth"))
    for hook in hooks:
        runner.register_hook(hook)
    runner.load_or_resume()
    return runner.model


def test_a_test_takes_the_names_that_hooks_give_and_models_in_wrappers(tmp_path):
    state = {name: value + 1 for name, value in model(search_space=2).state_dict().items()}
    old = {f"old.{name}": value for name, value in state.items()}
    found = loaded(tmp_path, old, [Renamed()])
    assert torch.equal(found.cls_head.bias, state["cls_head.bias"])
    wrapped = loaded(tmp_path, state, wrap=lambda settings: Augmented(settings))
    assert torch.equal(wrapped.module.cls_head.bias, state["cls_head.bias"])


def test_a_test_refuses_the_static_network_s_checkpoint_where_gates_are_wanted(tmp_path):
    with pytest.raises(SystemExit, match=r"w.pth is of the static network and has no backbone.1.g"):
        loaded(tmp_path, model().state_dict())


@pytest.mark.parametrize("kind", [CheckedRunner, TrainingRunner])
@pytest.mark.parametrize("form", [
    lambda state: state,
    lambda state: dict(state_dict={f"module.{name}": value for name, value in state.items()}),
], ids=["weights alone", "of a wrapped network"])  # fmt: skip
def test_the_average_of_weights_begins_with_those_of_a_checkpoint(tmp_path, kind, form):
    state = {name: value + 1 for name, value in model(search_space=2).state_dict().items()}
    torch.save(form(state), tmp_path / "w.pth")
    hooks = [dict(type="CostHook"), dict(type="EMAHook")]
    settings = toy.runner_settings(tmp_path, dict(search_space=2), hooks)
    runner = kind(**settings, load_from=str(tmp_path / "w.pth"))
    runner.call_hook("before_run")
    runner.load_or_resume()
    (average,) = (hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook))
    for network in (runner.model, average):
        assert torch.equal(network.cls_head.bias, state["cls_head.bias"])


def test_a_training_does_not_go_on_from_weights_alone_and_starts_from_them(tmp_path):
    file, state = str(tmp_path / "w.pth"), model().state_dict()
    settings = toy.runner_settings(tmp_path, hooks=COST)
    for content in (state, {"state_dict": state, "meta": {"epoch": 1, "iter": 3}}):
        torch.save(content, file)
        told = rf"w\.pth holds weights and no training .*load_from={re.escape(file)}"
        with pytest.raises(SystemExit, match=told):
            TrainingRunner(**settings, load_from=file, resume=True).train()
    runner = TrainingRunner(**settings, load_from=file)
    runner.load_or_resume()
    assert torch.equal(runner.model.cls_head.bias, state["cls_head.bias"])


def test_a_training_goes_on_from_no_checkpoint_without_its_schedule(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(weights, "print_log", lambda text, *how: told.append(text))
    saving = dict(type="CheckpointHook", interval=1, save_best="accuracy", save_optimizer=False)
    settings = toy.runner_settings(
        tmp_path, hooks=COST, epochs=2, default_hooks=dict(checkpoint=saving),
        param_scheduler=[dict(type="CosineAnnealingLR", T_max=2)],
    )  # fmt: skip
    TrainingRunner(**settings).train()
    (best,) = tmp_path.glob("best_accuracy_*.pth")
    with pytest.raises(SystemExit, match="lacks param_schedulers, as the best checkpoints of Chec"):
        TrainingRunner(**settings, load_from=str(best), resume=True).train()
    TrainingRunner(**settings, load_from=str(tmp_path / "epoch_1.pth"), resume=True).train()
    assert re.search("epoch_1.pth holds no optimizer, whose momentum and the like begin", told[-1])


def test_a_training_that_goes_on_tells_whose_schedule_it_follows(tmp_path, monkeypatch):
    def resumed(epochs, **settings):
        cosine = dict(type="CosineAnnealingLR", end=epochs, convert_to_iter_based=True)
        settings = dict(param_scheduler=[cosine], **settings)
        settings = toy.runner_settings(tmp_path, hooks=COST, epochs=epochs, **settings)
        TrainingRunner(**settings).train()

    told = []
    monkeypatch.setattr(weights, "print_log", lambda text, *how: told.append(text))
    goes_on = dict(resume=True, load_from=str(tmp_path / "epoch_1.pth"))
    resumed(1)
    assert told == []
    resumed(1, **goes_on)
    (line,) = told
    assert re.search(r"nothing is left to train: .*epoch_1.pth has 1 epochs, and 1 are wan", line)
    # 10 clips in batches of 4: 3 iterations to an epoch.
    resumed(2, **goes_on)
    _, line = told
    assert "0.end is 3, and not 6; param_scheduler.0.T_max is 3, and not 6. To train" in line
    resumed(1, **goes_on, optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.5)))
    assert "base_values is [0.05], and not [0.5]. To train by the config's, begin an" in told[-1]


def test_a_training_starts_from_no_weights_of_ghost_modules_that_it_has_not(tmp_path):
    ghost = model()
    make_ghost(ghost, GhostConfig(targets=r"backbone\.1"))
    torch.save(dict(state_dict=ghost.state_dict()), tmp_path / "ghost.pth")
    settings = toy.runner_settings(tmp_path / "run", hooks=COST)
    runner = TrainingRunner(**settings, load_from=str(tmp_path / "ghost.pth"))
    with pytest.raises(SystemExit, match="ghost.pth is of a network with Ghost modules, as backbo"):
        runner.train()
    torch.save(dict(state_dict=model(search_space=2).state_dict()), tmp_path / "dynamic.pth")
    settings = toy.runner_settings(tmp_path / "other", hooks=[dict(type="CostHook")])
    TrainingRunner(**settings, load_from=str(tmp_path / "dynamic.pth")).train()


@pytest.mark.parametrize(
    ("metric", "hook"), [("CostMetric", "CostHook"), ("ViewAccuracy", "ViewScoresHook")]
)
def test_a_metric_without_its_hook_is_refused_before_the_training(tmp_path, metric, hook):
    evaluator = dict(val_evaluator=dict(type=metric), test_evaluator=dict(type=metric))
    runner = TrainingRunner(**toy.runner_settings(tmp_path, **evaluator))
    with pytest.raises(ValueError, match=rf"{metric} measures .* add dict\(type='{hook}'\)"):
        runner.train()
    assert runner.iter == 0
    refuse_lacking([HOOKS.build(dict(type=hook))], [METRICS.build(dict(type=metric))])


@pytest.mark.parametrize("part", ["val", "test"])
def test_no_sample_of_an_evaluation_is_left_out(tmp_path, part):
    settings = toy.runner_settings(tmp_path, dynamic={}, hooks=[dict(type="CostHook")])
    loader = settings[f"{part}_dataloader"]
    loader["drop_last"] = True
    told = f"{part}_dataloader has drop_last=True, by which 2 of 10 samples would be left out"
    with pytest.raises(ValueError, match=told):
        getattr(TrainingRunner(**settings), dict(val="train", test="test")[part])()
    loader["batch_size"] = 5
    settings["experiment_name"] += "-whole"
    assert TrainingRunner(**settings).test()["cost/share"] == 1
