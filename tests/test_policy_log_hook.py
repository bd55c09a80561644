"""A training tells TensorBoard what its gates decided; judged by the gates' own answers."""

import json
from pathlib import Path

import pytest
import torch
import toy
from installed import imported
from mmengine.runner import Runner
from torch import nn

from vared_mm.engine import PolicyLogHook, policy_log_hook
from vared_mm.method import NoMatchingModuleError

accumulator = imported("tensorboard.backend.event_processing.event_accumulator")

LAYERS = ("backbone.1", "backbone.4")
MACS = torch.tensor([4 * 27, 8])  # of one output value
CHOICES = ("channel/1", "channel/0.5", "time/1", "time/0.5")


def train(tmp_path, interval=2, backends=("TensorboardVisBackend",), dynamic=None, **settings):
    """Trains 6 iterations with gates of different opinions.

    Returns:
        The runner, and per iteration the gates (L, N, choices) and how many hooks each gate had.
    """
    hooks = [dict(type="EfficiencyLossHook"), dict(type="PolicyLogHook", interval=interval)]
    settings = dict(
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        log_processor=dict(window_size=1, by_epoch="train_cfg" not in settings),
        visualizer=dict(type="Visualizer", vis_backends=[dict(type=b) for b in backends]),
        val_cfg=None, val_dataloader=None, val_evaluator=None,
    ) | settings  # fmt: skip
    settings = toy.runner_settings(tmp_path, dynamic or {}, hooks, epochs=2, **settings)
    runner = Runner(**settings)
    answers, watchers = [], []
    for i, conv in enumerate(convs(runner)):
        generator = torch.Generator().manual_seed(i)
        nn.init.normal_(conv.gate.weight2, std=2, generator=generator)
        conv.gate.register_forward_hook(lambda m, args, out: answers.append(out.detach().clone()))
        conv.gate.register_forward_hook(lambda m, *_: watchers.append(len(m._forward_hooks) - 2))
    runner.train()
    return (
        runner,
        [torch.stack(pair) for pair in zip(answers[::2], answers[1::2], strict=True)],
        watchers,
    )


def convs(runner):
    model = getattr(runner.model, "module", runner.model)
    return model.backbone[1], model.backbone[4]


def events(runner):
    """{tag: {step: value}} of scalars and of histograms."""
    (file,) = Path(runner.log_dir).rglob("events.out.*")
    read = accumulator.EventAccumulator(str(file), dict(scalars=0, histograms=0)).Reload()
    scalars = {t: {e.step: e.value for e in read.Scalars(t)} for t in read.Tags()["scalars"]}
    tags = read.Tags()["histograms"]
    return scalars, {t: {e.step: e.histogram_value for e in read.Histograms(t)} for t in tags}


def share_by_hand(gates):
    """r/R of one sample whose gates are (channel 1, channel 1/2, time 1, time 1/2)."""
    channel, _, time, _ = gates.tolist()
    return (1 if channel > 0 else 0.5) * (1 if time > 0 else 0.5)


def shares_by_hand(gates):
    """(L,) means over the samples."""
    rows = [[share_by_hand(sample) for sample in layer] for layer in gates]
    return torch.tensor(rows).mean(1)


WAYS = {
    "by epochs": {},
    "by iterations": dict(train_cfg=dict(type="IterBasedTrainLoop", max_iters=6)),
    "activation checkpointing": dict(model=dict(checkpointing="without reentry")),
}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_tensorboard_holds_what_the_gates_answered_and_the_parts_of_the_loss(tmp_path, settings):
    runner, answers, _ = train(tmp_path, **settings)
    if "model" in settings:  # each pass runs twice, the second time for the gradient
        answers = answers[::2]
    scalars, histograms = events(runner)
    for step in (2, 4, 6):
        gates = answers[step - 1]
        shares = shares_by_hand(gates)
        assert 0.25 < shares.min() < shares.max() < 1  # the gates do differ
        for layer, share in zip(LAYERS, shares, strict=True):
            assert scalars[f"share/{layer}"][step] == pytest.approx(share.item())
        mean = (MACS * shares).sum() / MACS.sum()
        assert scalars["mac_share"][step] == pytest.approx(mean.item())
        for choice, values in zip(CHOICES, gates.double().flatten(0, 1).unbind(1), strict=True):
            told = histograms[f"gate_{choice}"][step]
            assert told.num == values.numel()
            assert (told.min, told.max, told.sum) == pytest.approx(
                (values.min().item(), values.max().item(), values.sum().item())
            )
            opened = sum(value > 0 for value in values.tolist()) / values.numel()
            assert scalars[f"open_{choice}"][step] == pytest.approx(opened)
    assert set(scalars[f"share/{LAYERS[0]}"]) == {2, 4, 6}
    losses = [scalars[tag] for tag in ("loss", "loss_cls", "loss_efficiency")]
    for step in range(1, 7):
        whole, *parts = (loss[step] for loss in losses)
        assert whole == pytest.approx(sum(parts))


def test_iterations_without_a_log_are_not_watched_and_nothing_stays_behind(tmp_path):
    runner, answers, watchers = train(tmp_path, interval=3)
    assert len(answers) == 6
    # EfficiencyLossHook watches each of the 12 gate passes, the log those of iterations 3 and 6.
    assert watchers == [1] * 4 + [2] * 2 + [1] * 4 + [2] * 2
    for conv in convs(runner):
        assert len(conv.gate._forward_hooks) == 2  # the test's own
        assert not conv._forward_hooks
    assert not runner.model._forward_hooks
    modules = runner.model.modules()
    assert not any(isinstance(v, torch.Tensor) for m in modules for v in vars(m).values())


def test_a_backend_without_histograms_gets_the_scalars_of_every_choice(tmp_path):
    backends, dynamic = ["LocalVisBackend"], dict(search_space=3)
    runner, answers, _ = train(tmp_path, interval=6, backends=backends, dynamic=dynamic)
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    (row,) = [row for row in map(json.loads, lines) if "share/backbone.1" in row]
    assert row["step"] == 6
    opened = (answers[5].flatten(0, 1) > 0).double().mean(0).tolist()
    names = [f"open_{axis}/{r}" for axis in ("channel", "time") for r in ("1", "0.5", "0.25")]
    assert [row[name] for name in names] == pytest.approx(opened)


@pytest.fixture
def _one_process_group(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with toy.one_process():
        yield


@pytest.mark.usefixtures("_one_process_group")
@pytest.mark.parametrize("main", [True, False], ids=["main process", "another process"])
def test_of_several_processes_the_main_one_writes(tmp_path, monkeypatch, main):
    monkeypatch.setattr(policy_log_hook, "is_main_process", lambda: main)
    wrapper = dict(type="MMDistributedDataParallel", device_ids=None)
    runner, answers, watchers = train(
        tmp_path, interval=6, launcher="pytorch", cfg=dict(model_wrapper_cfg=wrapper)
    )
    scalars, histograms = events(runner)
    assert watchers[-1] == 1 + main
    told = {tag: by_step[6] for tag, by_step in scalars.items() if tag.startswith("share/")}
    by_hand = zip([f"share/{n}" for n in LAYERS], shares_by_hand(answers[5]).tolist(), strict=True)
    assert told == (pytest.approx(dict(by_hand)) if main else {})
    assert bool(histograms) == main


def test_a_static_model_is_refused(tmp_path):
    settings = toy.runner_settings(tmp_path, hooks=[dict(type="PolicyLogHook")])
    with pytest.raises(NoMatchingModuleError, match="ToyRecognizer has no dynamic convolution"):
        Runner(**settings).train()


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="interval is 0; wanted iterations from 1 up"):
        PolicyLogHook(interval=0)
