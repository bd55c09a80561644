"""A checkpoint at other budgets: the shift that is found, what it moves, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
import toy
from command_lines import tool_of
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from vared_mm.method import DynamicConfig
from vared_mm.method.gate import Gate
from vared_mm.report.budget import Shifted, mean_share, shift_all, shifts_for, write_at_budgets


def test_the_shift_is_that_whose_share_is_nearest():
    asked = []
    found = shifts_for(lambda shift: asked.append(shift) or (shift + 10) / 20, [0.3, 0.7, 0.28])
    assert found[0.3].shift == pytest.approx(-4, abs=0.04)
    assert [found[target].share for target in found] == pytest.approx(list(found), abs=2e-3)
    # No pass more: both ends, and 0, -5, -2.5, -3.75, -4.375, -4.06, -3.9, -3.98 in between; the
    # second does without the ends and 0, and the third takes one that the first tried.
    assert (len(asked), asked.index(5.0), found[0.28].shift) == (17, 10, -4.375)
    # A share that jumps from a quarter to a half: the nearer of the two.
    stairs = shifts_for(lambda shift: 0.25 if shift < 1 else 0.5, [0.3, 0.45])
    assert [one.share for one in stairs.values()] == [0.25, 0.5]
    assert all(one.shift == pytest.approx(1, abs=0.01) for one in stairs.values())
    # An end of 0.3264 is told as 0.326.
    assert shifts_for(lambda shift: 0.3264 if shift < 1 else 0.5, [0.326])[0.326].share == 0.3264


def test_shares_out_of_reach_are_told_before_the_first_is_looked_for():
    asked = []
    with pytest.raises(
        ValueError, match=r"0\.1 and 0\.9 was asked for, and the gates reach from 0\.250 to 0\.500"
    ):
        shifts_for(
            lambda shift: asked.append(shift) or (0.25 if shift < 1 else 0.5), [0.3, 0.1, 0.9]
        )
    assert asked == [-10, 10]


def test_of_each_axis_all_but_the_least_choice_are_moved():
    gate = Gate(2, 2, DynamicConfig(search_space=3))
    shift_all([gate], [torch.zeros(6)], 0.5)
    assert gate.beta.tolist() == [0.5, 0.5, 0, 0.5, 0.5, 0]
    shift_all([gate], [torch.zeros(6)], -1.0)
    assert gate.beta.tolist() == [-1, -1, 0, -1, -1, 0]


@pytest.fixture
def config():
    settings = toy.runner_settings("unused", dict(normalised=True))
    return Config({key: settings[key] for key in ("model", "val_dataloader", "test_dataloader")})


@pytest.fixture
def checkpoint(config, tmp_path):
    model = MODELS.build(config.model)
    for gate in (m for m in model.modules() if isinstance(m, Gate)):
        nn.init.normal_(gate.weight2)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch_1.pth")
    return tmp_path / "epoch_1.pth"


def test_the_checkpoint_written_has_the_share_and_all_other_weights(config, checkpoint, tmp_path):
    out = tmp_path / "new" / "epoch_1-budget_0.6.pth"
    found = write_at_budgets(config, checkpoint, {0.6: out})[0.6]
    assert found.share == pytest.approx(0.6, abs=0.1)
    before, after = (torch.load(f, weights_only=True)["state_dict"] for f in (checkpoint, out))
    assert {k for k in before if not torch.equal(before[k], after[k])} == {
        "backbone.1.gate.beta", "backbone.4.gate.beta",
    }  # fmt: skip
    model = MODELS.build(config.model).eval()
    model.load_state_dict(after)
    clips = toy.ToyClips()
    loader = [
        {"inputs": [clips[i]["inputs"]], "data_samples": [clips[i]["data_samples"]]}
        for i in range(toy.CLIPS)
    ]
    assert mean_share(model, loader) == pytest.approx(found.share, abs=1e-6)


def test_a_static_model_has_no_other_budget(config, checkpoint, tmp_path):
    config.model.dynamic = None
    static = MODELS.build(config.model)
    torch.save({"state_dict": static.state_dict()}, checkpoint)
    with pytest.raises(ValueError, match="has no gates that ask the input"):
        write_at_budgets(config, checkpoint, {0.5: tmp_path / "out.pth"})
    assert not (tmp_path / "out.pth").exists()


def test_checkpoints_of_one_name_are_kept_apart(monkeypatch, tmp_path):
    evaluate = tool_of("evaluate")
    monkeypatch.setattr(evaluate, "write_at_budgets", lambda *_: {0.3: Shifted(0.0, 0.5)})
    seeds = [tmp_path / seed / "epoch_1.pth" for seed in ("0", "1")]
    asked = SimpleNamespace(
        checkpoints=seeds, budget=[0.3, 0.5], config="net.py", cfg_options=None, out=tmp_path
    )
    made = evaluate.budgets(Config(), asked)
    assert len(set(made)) == 4
    # Seeds are averaged by the name of their checkpoint.
    assert [path.stem for path in made] == ["epoch_1-budget_0.3", "epoch_1-budget_0.5"] * 2
