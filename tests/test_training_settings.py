"""What a checkpoint tells of its training, and where trainings differ."""

from mmengine.config import Config

from vared_mm.report.training_settings import told_apart, training_of

CONFIG = dict(
    model=dict(type="Net", init_cfg=dict(checkpoint="/home/me/start.pth"), stages=(1, -2)),
    train_cfg=dict(max_epochs=3, by_epoch=True),
    train_dataloader=dict(batch_size=4, num_workers=2, dataset=dict(ann_file="data/train.txt")),
    custom_hooks=[dict(type="EfficiencyLossHook", target=0.2)],
    optim_wrapper={"custom_keys": {"gate.beta": dict(decay_mult=0.0)}, "lr": 1e-3},
    work_dir="work_dirs/a",
    randomness=dict(seed=1),
)


def test_what_a_training_learned_by_is_told_without_its_places_and_seed():
    assert training_of({"cfg": Config(CONFIG).pretty_text}) == {
        "model.type": "Net",
        "model.stages.0": 1,
        "model.stages.1": -2,
        "train_cfg.max_epochs": 3,
        "train_cfg.by_epoch": True,
        "train_dataloader.batch_size": 4,
        "custom_hooks.0.type": "EfficiencyLossHook",
        "custom_hooks.0.target": 0.2,
        "optim_wrapper.custom_keys.gate.beta.decay_mult": 0.0,
        "optim_wrapper.lr": 0.001,
    }


def test_nothing_of_a_checkpoint_is_run():
    text = "model = dict(a=print('run'), b=__import__('os').sep)\nprint('run')"
    assert training_of({"cfg": text}) == {
        "model.a": "print('run')",
        "model.b": "__import__('os').sep",
    }
    assert training_of({"cfg": "model = dict("}) is None
    assert training_of({"cfg": None}) is training_of({}) is None


def test_trainings_are_told_apart_by_what_differs_alone():
    one, other = {"hook": 1, "steps": 3}, {"hook": 2, "steps": 3, "norm": None}
    assert told_apart([one, other, one]) == ["hook=1", "hook=2", "hook=1"]
    assert told_apart([one, {**one}]) == ["", ""]
    # One that tells nothing is one of those that are alike.
    assert told_apart([one, None, one]) == ["", "", ""]
    assert told_apart([None, None]) == ["", ""]
    assert told_apart([one, None, {"hook": 2, "steps": 4}]) == [
        "hook=1 steps=3",
        "unknown",
        "hook=2 steps=4",
    ]
