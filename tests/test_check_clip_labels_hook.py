"""Labels that a recognizer has no class for are refused by name, before anything is run."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_lines import tool_of
from users_folder import fill

from vared_mm.engine.check_clip_labels_hook import (
    CheckClipLabelsHook,
    NoClassError,
    check_clip_labels,
)


def network(classes=3):
    return SimpleNamespace(cls_head=SimpleNamespace(num_classes=classes))


class Videos(list):
    """A data set of these labels."""

    def get_data_info(self, i):
        return dict(filename=f"{i}.mp4", label=self[i])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3, 3], "2.mp4 has the label 3, .* 3 classes .* 0 to 2; are .* from 1, to 3?"),
        ([0, 2, 7, np.int64(4)], "3.mp4 has the label 4, .* are the labels of other classes"),
        ([0, -1, 2], "1.mp4 has the label -1, .* a line without a label gets: is it missing"),
    ],
)
def test_the_first_sample_without_a_class_is_named_with_a_guess(labels, message):
    with pytest.raises(NoClassError, match=message):
        check_clip_labels(network(), Videos(labels))


@pytest.mark.parametrize(
    "labels",
    [[0, 2, 1], [[0, 7], [2]], [torch.ones(9)], [None], [-1, -1], []],
    ids=["right", "several", "one-hot", "none", "no labels to test", "empty"],
)
def test_labels_with_classes_and_samples_without_one_label_pass(labels):
    check_clip_labels(network(), Videos(labels))


def test_models_without_classes_of_clips_and_data_sets_that_tell_nothing_pass():
    check_clip_labels(torch.nn.Linear(1, 1), Videos([7]))
    check_clip_labels(network(classes=None), Videos([7]))
    check_clip_labels(network(), [7])


def test_nothing_is_learned_without_labels():
    with pytest.raises(NoClassError, match="0.mp4 has the label -1"):
        check_clip_labels(network(), Videos([-1, -1]), learned=True)


def test_the_validation_set_is_looked_at_before_the_training():
    good, bad = (SimpleNamespace(dataset=Videos([label])) for label in (2, 3))
    runner = SimpleNamespace(
        model=network(), train_dataloader=good, val_dataloader=bad, test_dataloader=bad, val_loop=1
    )
    hook = CheckClipLabelsHook()
    for start in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(NoClassError, match="0.mp4 has the label 3"):
            start(runner)
    runner.val_loop = None
    hook.before_train(runner)


def test_a_validation_set_is_looked_at_once_in_a_training(monkeypatch):
    asked, right = [], Videos.get_data_info
    monkeypatch.setattr(Videos, "get_data_info", lambda self, i: asked.append(i) or right(self, i))
    loader = SimpleNamespace(dataset=Videos([0, 1, 2]))
    runner = SimpleNamespace(
        model=network(), train_dataloader=loader, val_dataloader=loader, val_loop=1
    )
    hook = CheckClipLabelsHook()
    hook.before_train(runner)
    for _ in range(3):
        hook.before_val(runner)
    assert len(asked) == 2 * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As of `fill`, with labels 1 to 9 of 9 classes, and a checkpoint."""
    folder = fill(tmp_path_factory.mktemp("user"))
    for file in (folder / "clips/train.txt", folder / "clips/val.txt"):
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(f"{name} {int(label) + 1}\n" for name, label in rows))
    from vared_mm.flops import build_model
    from vared_mm.launch import config_of

    model = build_model(config_of(str(folder / "vared_i3d_motion.py")))
    torch.save({"state_dict": model.state_dict()}, folder / "net.pth")
    return folder


@pytest.mark.parametrize(
    ("tool", "words"), [("train", []), ("test", ["net.pth"]), ("evaluate", ["net.pth"])]
)
def test_every_tool_tells_labels_counted_from_1_in_a_line(folder, tool, words, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", "vared_i3d_motion.py", *words])
    message = r"error: clips/\S+mp4 has the label 9, and the model 9 classes .* from 1, to 9"
    with pytest.raises(SystemExit, match=message):
        tool_of(tool).main()
    assert not list(folder.rglob("epoch_*.pth"))
