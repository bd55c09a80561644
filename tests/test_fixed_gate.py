"""Gates that do not ask the input, and a dynamic network that is frozen to them."""

import copy
import pickle
import shlex
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_lines import tool_of
from results_by_hand import result_of, samples_of
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.method import DynamicConfig, DynamicError, VaRedConv3d, make_dynamic
from vared_mm.method.fixed_gate import RandomGate, has_one_policy
from vared_mm.method.frozen import frozen
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost
from vared_mm.options import run_parser
from vared_mm.report.choices import choices_of
from vared_mm.report.policies import Policies, policies_of
from vared_mm.report.policy_of_share import policy_of_share
from vared_mm.report.result import write_result
from vared_mm.shipped import TRAINED

freeze = tool_of("freeze")
BLOCKS = r"(?P<block>[01])\.\d"


def network(**settings):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 8, 3, padding=1)),
        nn.Sequential(nn.Conv3d(8, 8, 1)),
    )
    make_dynamic(model, DynamicConfig(**settings))
    return model.eval()


@pytest.mark.parametrize("settings", [{}, {"share": "block", "targets": BLOCKS}], ids=str)
@torch.no_grad()
def test_a_frozen_network_answers_as_one_whose_gates_are_forced(settings):
    x, model = torch.randn(3, 3, 4, 5, 5), network(**settings)
    leaders = [name for name, conv in dynamic_convs(model).items() if hasattr(conv.gate, "beta")]
    assert leaders == (["0.0", "1.0"] if settings else ["0.0", "0.1", "1.0"])
    choices = (0.0, 0.7, 0.6, 0.2)
    gates = {name: {"values": torch.tensor(choices)} for name in leaders}
    one = network(**settings, gate="fixed")
    one.load_state_dict(frozen(model, gates))
    with forced_gates(model, choices):
        torch.testing.assert_close(one(x), model(x))
    with record_cost(one) as record:
        one(x)
    assert [p.share.tolist() for p in record.passes] == [[0.5] * 3] * 3
    assert record.passes[0].full[0] < record.passes[0].dense
    assert not any("gate" in name for name, _ in one.named_parameters())


@torch.no_grad()
def test_without_a_checkpoint_everything_is_computed_as_by_the_plain_network():
    x = torch.randn(2, 3, 4, 5, 5)
    plain = network()
    weights = {k: v for k, v in plain.state_dict().items() if k.split(".")[2] in ("weight", "bias")}
    for kind in ("fixed", "random"):
        model = network(gate=kind)
        model.load_state_dict(weights, strict=False)
        with forced_gates(plain, (1.0, 0.0, 1.0, 0.0)):
            torch.testing.assert_close(model(x), plain(x))
        assert not any(conv.gate.macs() for conv in dynamic_convs(model).values())


def test_random_gates_answer_each_row_as_often_as_its_chance():
    gate = RandomGate(1, DynamicConfig(search_space=2))
    gate.values = torch.tensor([[0.9, 0.0], [0.0, 0.4]])
    gate.chances = torch.tensor([0.25, 0.75])
    torch.manual_seed(0)
    answers = gate(torch.randn(4000, 3, 2, 2))
    assert set(map(tuple, answers.tolist())) == {
        tuple(torch.tensor(row).tolist()) for row in ([0.9, 0.0], [0.0, 0.4])
    }
    assert (answers[:, 0] > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


@torch.no_grad()
def test_a_block_draws_once_for_all_its_convolutions():
    settings = dict(share="block", targets=BLOCKS)
    one, half, whole = (
        network(**settings, gate="random"),
        [0.0, 0.7, 0.0, 0.6],
        [0.9, 0.0, 0.8, 0.0],
    )
    table = {"values": torch.tensor([half, whole]), "chances": torch.tensor([0.5, 0.5])}
    one.load_state_dict(frozen(network(**settings), {"0.0": table, "1.0": table}))
    for model in (one, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        with record_cost(model) as record:
            model(torch.randn(200, 3, 2, 3, 3))
        first, second, other = (gates for _, _, gates, _ in record.seen)
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
        assert 60 < int((first[:, 0] > 0).sum()) < 140
    with pytest.raises(DynamicError, match="ran before the block's first one, which asks"):
        network(**settings, gate="random")[0][1](torch.randn(2, 8, 2, 3, 3))


@pytest.mark.parametrize("settings", [{}, {"share": "block", "targets": BLOCKS}], ids=str)
@torch.no_grad()
def test_a_network_whose_gates_draw_is_prepared_and_draws_as_it_did(settings):
    one, x = network(**settings, gate="random"), torch.randn(8, 3, 4, 5, 5)
    for conv in dynamic_convs(one).values():
        if isinstance(conv.gate, RandomGate):
            conv.gate.values = torch.tensor([[0.0, 0.7, 0.0, 0.6], [0.9, 0.0, 0.8, 0.0]])
            conv.gate.chances = torch.tensor([0.5, 0.5])
    prepared = prepare_for_inference(one, x, precision="float32")
    for seed in (1, 2, 2):
        torch.manual_seed(seed)
        expected = one(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(prepared(x), expected, rtol=1e-4, atol=1e-5)


def test_a_policy_of_another_network_is_refused():
    model = network()
    with pytest.raises(DynamicError, match=r"of 1 gates, as that of 5\.conv, and the model has 3"):
        frozen(model, {"5.conv": {"values": torch.ones(4)}})


def test_gates_that_ask_the_input_do_not_load_into_fixed_ones():
    with pytest.raises(DynamicError, match="trained with other settings"):
        network(gate="fixed").load_state_dict(network().state_dict())
    with pytest.raises(ValueError, match="gate is 'none'; wanted one of"):
        DynamicConfig(gate="none")


def samples_with(policies, layers, shares):
    """Four clips whose policies are given by number, with answers of two gates of two axes."""
    chosen, answers = policies
    names = np.repeat(["a", "b"], 4)
    share = np.array(shares)
    return SimpleNamespace(
        policies=Policies(np.array(chosen)[:, None], np.array(answers, float), names),
        share=share, layer_names=np.array(["a", "b"]), layer_dense=np.tile(layers, (4, 1)),
        layer_frames=np.array([8, 8]),
    )  # fmt: skip


def test_a_policy_of_as_many_macs_closes_what_the_fewest_clips_opened():
    model = nn.ModuleDict({name: VaRedConv3d(2, 4, 1) for name in "ab"})
    # Three clips of four compute all frames of a; one computes all channels, and nobody all of b.
    least, some = [0, 0.5, 0, 0.5, 0, 0.5, 0, 0.5], [0, 0.5, 0.7, 0, 0, 0.5, 0, 0.5]
    every = [0.9, 0.5, 0.8, 0, 0, 0.5, 0, 0.5]
    policies = [1, 1, 2, 0], [least, some, every]
    # a has 3/4 of the MACs: 0.4 allows its half (0.375) with a quarter of b (0.0625), no less.
    samples = samples_with(policies, [3.0, 1.0], [0.4] * 4)
    gates = freeze.of_same_macs(model, samples)
    # Of two clips with 0.7 and one with 0.8.
    assert gates["a"]["values"].tolist() == pytest.approx([0, 0.5, 2.2 / 3, 0])
    assert gates["b"]["values"].tolist() == pytest.approx([0, 0.5, 0, 0.5])
    # 0.9 allows nothing to be closed but one axis of b: 0.875 would be less.
    everything = freeze.of_same_macs(model, samples_with(policies, [3.0, 1.0], [0.9] * 4))
    assert [(g["values"] > 0).tolist() for g in everything.values()] == [
        [True, False, True, False]
    ] * 2


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("dict(type='Edited')", "0" * 64, r"net\.py says something else than when vared_net was"),
        ("dict(type='TTA', module=dict())", None, "a TTA augments what another model predicts"),
    ],
    ids=["edited", "augmented"],
)
def test_of_another_config_than_the_model_s_own_nothing_is_frozen(
    model, settings, told, tmp_path, monkeypatch
):
    samples = samples_of(["a", "b"], [0, 1], ["conv"], np.array([0.5, 1]))
    choices = choices_of(samples.share, samples.loss, samples.policies, 0.75)
    (tmp_path / "net.py").write_text(f"model = {model}")
    of = dict(config=str(tmp_path / "net.py"), choices=choices, settings=settings)
    write_result(tmp_path, result_of(samples, **of))
    monkeypatch.setattr(sys, "argv", ["freeze.py", str(tmp_path), str(tmp_path / "out.pth")])
    with pytest.raises(SystemExit, match=told):
        freeze.main()


@pytest.mark.parametrize("kind", [[], ["--same-macs"], ["--random"]], ids=["", "macs", "random"])
def test_the_network_that_comes_along_is_frozen_by_its_record(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["freeze.py", str(TRAINED.parent), str(tmp_path / "one.pth"), *kind]
    )
    freeze.main()
    weights = torch.load(tmp_path / "one.pth", weights_only=True)["state_dict"]
    assert sum(key.endswith("gate.values") for key in weights) == 4


@pytest.mark.parametrize("name", ["net.py", "trained.pth", "result.json", "samples.npz"])
def test_what_is_frozen_is_kept(tmp_path, monkeypatch, name):
    samples = samples_of(["a", "b"], [0, 1], ["conv"], np.array([0.5, 1]))
    choices = choices_of(samples.share, samples.loss, samples.policies, 0.75)
    told = {"config": str(tmp_path / "net.py"), "checkpoint": str(tmp_path / "trained.pth")}
    write_result(tmp_path, result_of(samples, choices=choices, **told))
    monkeypatch.setattr(sys, "argv", ["freeze.py", str(tmp_path), str(tmp_path / name)])
    with pytest.raises(SystemExit, match=f"{name} would be replaced, which is given to be read"):
        freeze.main()


def clips_of_many_policies():
    """What the gates of `network` answer to 60 clips, 30 of each of two kinds.

    Those of the first are alike. The others take everything and have a policy each, as of the
    narrow paths, which cost nothing beside the first one, others are open.
    """
    clips = [{name: [0.0, 0.5, 0.0, 0.5] for name in ("0.0", "0.1", "1.0")} for _ in range(30)]
    for i in range(30):
        open_ = [(i >> bit) & 1 for bit in range(6)]
        clips.append({
            name: [0.8, 0.4 * open_[2 * k], 0.6, 0.2 * open_[2 * k + 1]]
            for k, name in enumerate(("0.0", "0.1", "1.0"))
        })  # fmt: skip
    return [{name: np.array([[row]], np.float32) for name, row in clip.items()} for clip in clips]


@torch.no_grad()
def test_of_more_policies_than_are_kept_paths_are_drawn_as_often_as_all_clips_opened_them():
    policies = policies_of(clips_of_many_policies())
    assert (policies.chosen.max() + 1, len(policies.answers), policies.left_out()) == (31, 20, 0)
    model = network(gate="random")
    # More answers than a new gate has.
    model.load_state_dict(frozen(network(), freeze.drawn_from(policies)))
    assert len(dynamic_convs(model)["0.0"].gate.chances) == 5
    torch.manual_seed(0)
    with record_cost(model) as record:
        model(torch.randn(4000, 3, 2, 3, 3))
    # Half of the clips have all, the others a quarter: half of the frames of half of the channels.
    for conv in record.passes:
        assert conv.share.mean().item() == pytest.approx(0.625, abs=0.02)


def test_the_policy_of_as_many_macs_counts_more_policies_than_are_kept():
    """25 clips of one policy open the first path of b, and 30 of 30 policies that of a."""
    model = nn.ModuleDict({name: VaRedConv3d(2, 4, 1) for name in "abcd"})
    whole, narrow = [0.9, 0, 0.9, 0], [0, 0.5, 0, 0.5]
    clips = [dict(a=narrow, b=whole, c=whole, d=whole) for _ in range(25)]
    for i in range(30):
        also = [0.3 * ((i >> bit) & 1) for bit in range(5)]
        a, c, d = ([0.9, one, 0.9, two] for one, two in (also[:2], also[2:4], (also[4], 0)))
        clips.append(dict(a=a, b=narrow, c=c, d=d))
    policies = policies_of([{k: np.array([[row]]) for k, row in clip.items()} for clip in clips])
    # One axis of one of the four may be closed, which leaves 7/8 of the MACs.
    costs, frames = dict.fromkeys("abcd", 1.0), dict.fromkeys("abcd", 8)
    gates, share = policy_of_share(model, policies, costs, frames, 0.85)
    assert share == 7 / 8
    opened = {name: (one["values"] > 0).tolist() for name, one in gates.items()}
    assert opened.pop("b") == [False, True, True, False]
    assert list(opened.values()) == [[True, False, True, False]] * 3


@pytest.mark.parametrize(
    ("normalised", "wanted"), [(True, [1, 0, 1, 0]), (False, [0.6, 0, 0.7, 0])]
)
def test_the_one_path_of_a_policy_is_as_wide_as_the_gate_would_open_it(normalised, wanted):
    settings = dict(normalised=normalised)
    model = nn.ModuleDict({"a": VaRedConv3d(2, 4, 1, dynamic=settings)})
    # Beside the first path of each axis its second one is open too.
    policies = policies_of([{"a": np.array([[[0.6, 0.4, 0.7, 0.3]]])}])
    gates, _ = policy_of_share(model, policies, {"a": 1.0}, {"a": 8}, 1.0)
    assert gates["a"]["values"].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(("channels", "frames"), [(8, 8), (8, 1), (8, 3), (5, 5), (6, 7)])
@torch.no_grad()
def test_the_share_of_a_policy_is_what_the_network_takes(channels, frames):
    settings = dict(search_space=3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, channels, 3, padding=1), nn.Conv3d(channels, 4, 1))
    make_dynamic(model, DynamicConfig(**settings))
    x = torch.randn(20, 3, frames, 5, 5)
    rows = (torch.rand(2, 20, 6) - 0.3).clamp(min=0)
    rows[..., [0, 3]] += 0.1 * (rows[..., [0, 3]] == 0)
    with record_cost(model.eval()) as record:
        model(x)
    clips = [{str(i): rows[i, n].view(1, 1, 6).numpy() for i in range(2)} for n in range(20)]
    dense = record.per_layer(20)["dense"][0].tolist()
    costs = dict(zip(record.names, dense, strict=True))
    told = dict(zip(record.names, record.frames, strict=True))
    assert told == {"0": frames, "1": frames}
    for wanted in (0.9, 0.5, 0.3):
        gates, share = policy_of_share(model, policies_of(clips), costs, told, wanted)
        assert share >= wanted
        one = copy.deepcopy(model)
        with ExitStack() as stack:
            for name, conv in dynamic_convs(one).items():
                row = gates[name]["values"]
                hook = conv.gate.register_forward_hook(
                    lambda gate, args, out, row=row: row.expand_as(out)
                )
                stack.callback(hook.remove)
            with record_cost(one) as took:
                one(x)
        assert took.share(20).tolist() == pytest.approx([share] * 20)


def test_what_a_former_version_did_not_keep_is_told(tmp_path, capsys):
    policies = policies_of(clips_of_many_policies())
    first = Policies(policies.chosen, policies.answers, policies.names)
    freeze.tell_left_out(policies, tmp_path)
    assert not capsys.readouterr().out
    freeze.tell_left_out(first, tmp_path)
    # 11 of 60.
    assert "the 20 most frequent policies alone: 18.3 % of the clips" in capsys.readouterr().out
    assert [often.sum() for _, often in first.of_gates().values()] == [pytest.approx(49)] * 3
    assert [often.sum() for _, often in policies.of_gates().values()] == [60] * 3


def test_a_gate_s_decisions_count_for_their_part_of_a_sample():
    """Two samples: one of four decisions, of which three open the first path, and one of one."""
    four = np.array([[[0.4, 0], [0.6, 0], [0.8, 0], [0, 0.2]]])
    policies = policies_of([{"a": four}, {"a": np.array([[[0, 0.4]]])}])
    ((answers, often),) = policies.of_gates().values()
    assert often.tolist() == [1.25, 0.75]
    assert answers.tolist() == [[0, pytest.approx(0.3)], [pytest.approx(0.6), 0]]


def test_the_commands_that_it_tells_are_those_of_its_files_whatever_their_names():
    options = {"a.file": "my clips/val.txt", "a.sizes": [1, "b c"], "dynamic.gate": "fixed"}
    evaluate, train = map(shlex.split, freeze.calls("my net.py", "its policy.pth", options))
    assert evaluate[:4] == ["vared-mm", "evaluate", "my net.py", "its policy.pth"]
    assert train[:3] == ["vared-mm", "train", "my net.py"]
    parser = run_parser("")
    assert parser.parse_args(["net.py", *evaluate[4:]]).cfg_options == options
    start = {"load_from": "its policy.pth"}
    assert parser.parse_args(["net.py", *train[3:]]).cfg_options == start | options


def test_the_tool_says_what_it_freezes(tmp_path):
    ran = subprocess.run(
        [sys.executable, "tools/freeze.py", str(tmp_path), "out.pth"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "result.json" in ran.stderr


def test_a_network_has_one_policy_where_all_gates_are_fixed():
    fixed, free, drawn = (
        VaRedConv3d(3, 8, 1, dynamic=dict(gate=kind)) for kind in ("fixed", "input", "random")
    )
    assert has_one_policy(nn.Sequential(fixed, nn.ReLU()))
    for other in (free, drawn):
        assert not has_one_policy(nn.Sequential(fixed, other))
    assert not has_one_policy(nn.ReLU())
