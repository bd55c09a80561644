"""A checkpoint that is not the model's is refused, where mmengine only logs what does not fit."""

import os
import pickle
import re

import pytest
import torch
import toy
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS, METRICS
from torch import nn

from vared_mm import weights
from vared_mm.method.gate import Gate
from vared_mm.rivals.ghost import GhostConfig, make_ghost
from vared_mm.weights import CheckedRunner, TrainingRunner, load_weights, refuse_lacking

COST = [dict(type="CostHook")]


def model(**dynamic):
    return toy.ToyRecognizer(dynamic=dynamic or None)


def test_a_static_checkpoint_loads_into_the_dynamic_model(tmp_path):
    static, dynamic = model(), model(search_space=2)
    torch.nn.init.constant_(static.cls_head.bias, 7)
    gates = [gate.beta.clone() for gate in dynamic.modules() if isinstance(gate, Gate)]
    torch.save(dict(state_dict=static.state_dict()), tmp_path / "static.pth")
    load_weights(dynamic, str(tmp_path / "static.pth"))
    assert dynamic.cls_head.bias.tolist() == [7, 7, 7]
    after = [gate.beta for gate in dynamic.modules() if isinstance(gate, Gate)]
    assert all(map(torch.equal, after, gates))


def other_head():
    state = model(search_space=2).state_dict()
    return dict(state, **{"cls_head.weight": torch.ones(400, 8)})


def gates_of_one_layer():
    state = model(search_space=2).state_dict()
    return {k: v for k, v in state.items() if not k.startswith(("backbone.1.g", "backbone.1.c"))}


def without(*ends):
    return {k: v for k, v in model(search_space=2).state_dict().items() if not k.endswith(ends)}


def with_more(**more):
    return model(search_space=2).state_dict() | more


STATES = {
    "other shape": (other_head, r"1 weights do not fit, as size mismatch for cls_head.weight: "
                    r".*\[400, 8\]\) from checkpoint, .* is torch.Size\(\[3, 8\]"),
    "other statistics": (lambda: with_more(**{"backbone.2.running_mean": torch.ones(4)}),
                         "1 weights do not fit, as size mismatch for backbone.2.running_mean"),
    "no statistics": (lambda: without("2.running_mean", "2.running_var"),
                      "2 weights are missing there, as backbone.2.running_mean"),
    "other network": (lambda: {"a": torch.ones(1)}, "12 weights are missing there, as backbone.0"),
    "other project": (lambda: {"model_state": model().state_dict(), "epoch": 3},
                      r"other.pth is no checkpoint \(ValueError: it holds no weights\)"),
    "deeper network": (lambda: with_more(**{"backbone.5.weight": torch.ones(8, 8)}),
                       "1 weights have no place here, as backbone.5.weight"),
    "fewer gates": (gates_of_one_layer, "weights are missing there, as backbone.1.gate.weight1"),
    "other space": (lambda: model(search_space=3).state_dict(), "does not fit: the checkpoint's "
                    ".*gate.* trained with other settings"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "message"), STATES.values(), ids=STATES)
def test_the_checkpoint_of_another_network_is_refused(tmp_path, state, message):
    torch.save(state(), tmp_path / "other.pth")
    with pytest.raises(SystemExit, match=message):
        load_weights(model(search_space=2), str(tmp_path / "other.pth"))


def test_a_dynamic_checkpoint_does_not_answer_without_its_gates(tmp_path):
    torch.save(dict(state_dict=model(search_space=2).state_dict()), tmp_path / "dynamic.pth")
    with pytest.raises(
        SystemExit, match=r"the config's has no backbone.1.gate.*: without its gates"
    ):
        load_weights(model(), str(tmp_path / "dynamic.pth"))


def left_behind():
    state = with_more(**{"auxiliary_head.weight": torch.ones(2, 2)})
    return {k: v for k, v in state.items() if not k.endswith("2.num_batches_tracked")}


def nan_head():
    return with_more(**{"cls_head.bias": torch.full((3,), torch.nan)})


@pytest.mark.parametrize(("state", "word"), [
    (left_behind, "left out auxiliary_head, which the config's network lacks"),
    (nan_head, "holds NaN or infinite numbers in 1 weights, as cls_head.bias"),
    (lambda: model().state_dict(), "is of the static network: the gates .* are not trained"),
])  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_fits_in_part_is_loaded_with_a_word(tmp_path, monkeypatch, state, word, prefix):
    told = []
    monkeypatch.setattr(weights, "print_log", lambda text, *how: told.append(text))
    theirs = {f"{prefix}{name}": value for name, value in state().items()}
    torch.save(dict(state_dict=theirs), tmp_path / "some.pth")
    own = model(search_space=2)
    nn.init.zeros_(own.cls_head.weight)
    load_weights(own, str(tmp_path / "some.pth"))
    assert torch.equal(own.cls_head.weight, theirs[f"{prefix}cls_head.weight"])
    (line,) = told
    assert re.search(word, line)


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


@pytest.mark.parametrize(("content", "said"), [
    (b"", r"is no checkpoint \("), (b"PK\x03\x04 cut short", "is no whole checkpoint: its end is"),
])  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content, said):
    (tmp_path / "no.pth").write_bytes(content)
    with pytest.raises(SystemExit, match=f"no.pth {said}"):
        load_weights(model(), str(tmp_path / "no.pth"))


@pytest.mark.parametrize(("write", "said"), [
    (lambda file: file.write_text("# A page of text\n"), "torch.save did not write it"),
    (lambda file: file.write_text("config = 1\nname\n"), "torch.save did not write it"),
    (lambda file: file.write_bytes(pickle.dumps([1], 4)), "torch.save did not write it"),
    (lambda file: torch.jit.script(nn.Linear(1, 1)).save(file), "torch.save did not write it"),
    (lambda file: torch.save(nn.Linear(1, 1), file), r"objects .*, as torch\.\S+\.Linear, whi"),
    (lambda file: torch.save(dict(a=torch.ones(1), f=print), file), "objects .*, as print, which"),
    (lambda file: torch.save(os.system, file), r"objects .*, as \w+\.system, which are not loaded"),
], ids=["text", "text like code", "pickle", "script", "module", "function", "command"])  # fmt: skip
def test_nobody_is_told_to_run_what_a_file_holds(tmp_path, write, said):
    write(tmp_path / "no.pth")
    run = TrainingRunner(
        **toy.runner_settings(tmp_path / "run", hooks=COST), load_from=str(tmp_path / "no.pth")
    )
    for read in (lambda: load_weights(model(), str(tmp_path / "no.pth")), run.train):
        with pytest.raises(SystemExit, match=f"no.pth .*{said}") as ended:
            read()
        assert "weights_only" not in str(ended.value)


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


def test_a_missing_checkpoint_is_named():
    with pytest.raises(SystemExit, match="there is no checkpoint nowhere.pth"):
        load_weights(model(), "nowhere.pth")


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
