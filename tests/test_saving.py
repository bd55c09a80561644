"""Checkpoints that an end at any time leaves whole."""

from pathlib import Path

import pytest
import torch
import toy
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from vared_mm.runners import TrainingRunner
from vared_mm.saving import KeepingHook


class EndedError(Exception):
    """In the place of the process's end."""


def runner_of(folder, epochs, **checkpoint):
    settings = toy.runner_settings(folder)
    settings["train_cfg"] = dict(by_epoch=True, max_epochs=epochs)
    settings |= dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    settings["default_hooks"] = {
        **settings.get("default_hooks", {}),
        "checkpoint": dict(type="CheckpointHook", interval=1, **checkpoint),
    }
    return TrainingRunner(**settings)


def names_of(folder):
    return sorted(path.name for path in Path(folder).glob("*.pth"))


def whole(file):
    return torch.load(file, weights_only=True)["meta"]["epoch"]


def test_the_former_checkpoint_goes_when_the_next_is_there(tmp_path):
    runner = runner_of(tmp_path, 3, max_keep_ckpts=1)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert type(hook) is KeepingHook
    there, right = [], LocalBackend.remove

    def watched(backend, path):
        there.append((Path(path).name, names_of(tmp_path)))
        right(backend, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalBackend, "remove", watched)
        runner.train()
    assert there == [
        ("epoch_1.pth", ["epoch_1.pth", "epoch_2.pth"]),
        ("epoch_2.pth", ["epoch_2.pth", "epoch_3.pth"]),
    ]
    assert names_of(tmp_path) == ["epoch_3.pth"]
    assert whole(tmp_path / "epoch_3.pth") == 3


def test_an_end_in_the_middle_of_a_checkpoint_leaves_the_one_before(tmp_path):
    written, right = [], LocalBackend.put

    def half(backend, content, path):
        written.append(path)
        if len(written) == 3:
            right(backend, content[: len(content) // 2], path)
            raise EndedError
        right(backend, content, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalBackend, "put", half)
        with pytest.raises(EndedError):
            runner_of(tmp_path, 4, max_keep_ckpts=1).train()
    assert names_of(tmp_path) == ["epoch_2.pth"]
    assert whole(tmp_path / "epoch_2.pth") == 2
    assert (tmp_path / "last_checkpoint").read_text().endswith("epoch_2.pth")


def test_a_best_one_by_what_is_not_measured_is_told_with_what_is(tmp_path):
    runner = runner_of(tmp_path, 1, save_best="acc/top1", rule="greater")
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.before_train(runner)
    with pytest.raises(ValueError, match=r"'acc/top1', which .* wanted one of \['score'\]"):
        hook._save_best_checkpoint(runner, {"score": 0.5})


def test_the_best_one_is_kept_until_there_is_a_better_and_when_it_is_saved_again(tmp_path):
    best = dict(max_keep_ckpts=1, save_best="score", rule="greater")
    runner = runner_of(tmp_path, 3, **best)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.before_train(runner)
    for epoch, score in enumerate([0.5, 0.4, 0.6]):
        runner.train_loop._epoch = epoch
        hook._save_best_checkpoint(runner, {"score": score})
        best_epoch = 2 if epoch == 2 else 0
        assert f"best_score_epoch_{best_epoch}.pth" in names_of(tmp_path)
        assert f"best_score_epoch_{2 - best_epoch}.pth" not in names_of(tmp_path)
    # As a training does that goes on and evaluates the same epoch.
    hook._save_best_checkpoint(runner, {"score": 0.7})
    assert "best_score_epoch_2.pth" in names_of(tmp_path)
