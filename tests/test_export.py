"""A dynamic network as a file that other engines run: policies, refusals, what it is worth."""

import json
import logging
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from exported_toy import speeds, trained_toy
from installed import imported
from mmengine.config import Config
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.export import exported, one_policy, policy, targets
from vared_mm.export.clips import Seen, look, network_of
from vared_mm.export.exported import export
from vared_mm.export.fixed_conv import fixed
from vared_mm.export.paying import LayerTime
from vared_mm.export.targets import TARGETS, ExportError
from vared_mm.export.trained import Settings, Trained, refuse_rivals
from vared_mm.export.trial import accuracy, compared, side_of
from vared_mm.fast.engines import EngineError
from vared_mm.fast.sides import DifferentFunctionError
from vared_mm.method import VaRedConv2d, VaRedConv3d
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet


def binary(threshold):
    """A head for two classes that gives one score."""
    head = nn.Identity()
    head.ignore_index, head.threshold = 255, threshold
    return head


def two_clips():
    """Gates of three clips: two chose half of both axes of one convolution, one chose all."""
    half, every = ([0, 0.4, 0, 0.8], [0, 0.6, 0, 0.6]), [0.9, 0, 0.7, 0]
    return [{"0": torch.tensor([[[row]]])} for row in (*half, every)]


def test_policies_are_the_mean_of_those_who_chose_them(tmp_path):
    model = nn.Sequential(VaRedConv3d(2, 4, 1))
    gates = two_clips()
    seen = gates, {"0": 100.0}, {"0": 8}
    rows = policy.policy_named("most-frequent", model)(*seen)
    assert rows["0"] == pytest.approx([0, 0.5, 0, 0.7])
    assert policy.covered([rows], gates) == pytest.approx(2 / 3)
    assert policy.policy_named("full", model)(*seen) is None
    assert policy.policy_named("share=1", model)(*seen)["0"] == pytest.approx([0.9, 0, 0.7, 0])
    assert policy.policy_named("share=0.2", model)(*seen)["0"] == pytest.approx(rows["0"])
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"choices": {"policy": rows}}))
    assert policy.policy_named(str(file), model)(*seen) == rows


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("share=2", None, "wanted a share of the MACs up to 1, like share=0.5"),
        ("share=half", None, "--policy is share=half"),
        ("seldom", None, "wanted full, most-frequent, share=0.5, or a file with a policy"),
        ("FILE", "[1, 2]", "holds no policy"),
        ("FILE", '{"policy": {"other": [1, 0]}}', "of 1 gates, as that of other"),
        ("FILE", '{"policy": {"0": [1, 0]}}', "has 2 answers of 0; wanted 4"),
        ("FILE", '{"policy": {"0": [0, 0, 1, 0]}}', "one at least opens a path"),
    ],
)
def test_other_policies_are_refused(name, content, told, tmp_path):
    if content is not None:
        name = str(tmp_path / "policy.json")
        (tmp_path / "policy.json").write_text(content)
    with pytest.raises(ValueError, match=told):
        policy.policy_named(name, nn.Sequential(VaRedConv3d(2, 4, 1)))


def test_a_static_network_has_full_alone():
    policy.policy_named("full", nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="the network has no gate: it is static"):
        policy.policy_named("most-frequent", nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        (VaRedConv3d(2, 4, 1), Settings("torch", "share=2"), "wanted a share of the MACs up to 1"),
        (VaRedConv3d(2, 4, 1), Settings("torch", "gone.json"), "wanted full, most-frequent, share"),
        (nn.Conv3d(2, 4, 1), Settings("torch"), "--policy is most-frequent and the network has no"),
        (nn.Conv3d(2, 4, 1), Settings("torch", policies=2), "--policies is 2 and the network has"),
    ],
    ids=["share", "file", "no gate", "no gates"],
)
def test_what_is_wrong_whatever_clips_choose_is_told_before_they_are_looked_at(
    model, settings, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(exported, "build_model", lambda *arguments: nn.Sequential(model))
    monkeypatch.setattr(exported, "trained", None)
    with pytest.raises(ValueError, match=told):
        export(Config(), "toy.pth", tmp_path / "toy.pt2", settings)


class Asks(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x


class Many(nn.Module):
    def forward(self, x):
        return x, x


def test_what_openvino_does_not_read_is_refused_too_and_leaves_no_file(tmp_path, monkeypatch):
    imported("openvino")
    unread = lambda network, example, path: path.write_text("no graph")  # noqa: E731
    monkeypatch.setattr(targets, "write_onnx", unread)
    level = logging.getLogger().level
    with pytest.raises(ExportError, match="Conv2d cannot be exported: "):
        TARGETS["openvino"].write(nn.Conv2d(2, 4, 3), torch.ones(1, 2, 8, 8), tmp_path / "net.xml")
    assert not [*tmp_path.iterdir()]
    assert logging.getLogger().level == level, "OpenVINO leaves it at errors alone"


def test_what_cannot_be_exported_is_refused_with_what_would_do(tmp_path, monkeypatch):
    with pytest.raises(ExportError, match=r"Asks cannot be exported: .*prepare_for_inference"):
        TARGETS["torch"].write(Asks(), torch.ones(2, 1), tmp_path / "net.pt2")
    with pytest.raises(ExportError, match="answers to a clip with 2 tensors; wanted one"):
        look(network_of(Many()), iter([(torch.ones(1, 2), None)]))
    clips = iter([(torch.ones(1, n), None) for n in (2, 3)])
    with pytest.raises(ExportError, match=r"clips of \(1, 2\) and \(1, 3\) came"):
        look(network_of(nn.Identity()), clips)
    # What is fitted is not judged by the same clips, but for a single one.
    seen = look(network_of(nn.Identity()), iter([(torch.full((1, 2), n), n) for n in range(3)]))
    assert [seen.half(first).labels for first in (0, 1)] == [[0, 2], [1]]
    assert seen.half(0).half(1).half(0).half(1).labels == [2]
    with pytest.raises(ExportError, match="has no sample"):
        look(network_of(nn.Identity()), iter([]))
    odd = VaRedConv3d(2, 4, 2, padding="same")
    with pytest.raises(ValueError, match=r"leave this convolution out by dynamic\.exclude"):
        fixed(odd, (1, 0, 1, 0), (1, 2, 4, 5, 5))
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    # Before the checkpoint and any clip is looked at.
    with pytest.raises(EngineError, match=r"onnxruntime cannot be imported .*vared_mm\[export\]"):
        export(Config(), "none.pth", tmp_path / "net.onnx", Settings())


def test_top_1_agreement_is_over_clips_and_pixels():
    a, b = torch.eye(3)[[0, 1, 2, 0]], torch.eye(3)[[0, 1, 2, 1]]
    top_1 = partial(torch.argmax, dim=1)
    assert compared(a, b, top_1) == {
        "agreement": 0.75, "difference": 1.0, "largest_score": 1.0
    }  # fmt: skip
    maps = torch.zeros(1, 2, 2, 2)
    other = maps.clone()
    other[0, 1, 0, 0] = 2.0
    assert compared(other, maps, top_1)["agreement"] == 0.75
    # Boxes have no top-1.
    assert compared(other, maps, None)["agreement"] is None
    assert accuracy(a, [0, 1, 2, 2]) == 0.75
    assert accuracy(a, [0, 1, 2, None]) is None


@pytest.mark.parametrize(
    ("head", "agreement"),
    [
        # Scores of 0, 0.5, 1 and -1 against 2, 0.5, -1 and -1.
        pytest.param(dict(decode_head=binary(0.4)), 0.75, id="probabilities above 0.4"),
        pytest.param(dict(decode_head=binary(0.6)), 0.5, id="above 0.6"),
        pytest.param(dict(decode_head=nn.ModuleList([binary(0), binary(0.6)])), 0.5, id="cascade"),
        pytest.param(dict(cls_head=nn.Identity()), 1.0, id="a single class"),
        pytest.param(dict(bbox_head=nn.Identity()), None, id="boxes"),
    ],
)
def test_a_single_score_agrees_where_the_threshold_says_the_same_of_it(head, agreement):
    of = Trained(SimpleNamespace(model=SimpleNamespace(**head)), Seen(), Seen())
    came, wanted = torch.tensor([[[[0, 0.5, 1, -1]]], [[[2, 0.5, -1, -1]]]])
    assert compared(came[None], wanted[None], of.best)["agreement"] == agreement


@pytest.mark.parametrize("slower", [False, True], ids=["faster", "slower than static"])
def test_the_file_is_never_slower_than_the_static_network(slower, tmp_path, monkeypatch):
    timed = speeds(static=100.0, snapshot=90.0 if slower else 150.0, dynamic=50.0)
    monkeypatch.setattr(one_policy, "timed_in_turn", timed)
    times = [LayerTime("backbone.1", 2.0, 1.0), LayerTime("backbone.4", 1.0, 2.0)]
    monkeypatch.setattr(one_policy, "layer_times", lambda *arguments: times)
    out = tmp_path / "new" / "toy.pt2"
    told = export(*trained_toy(tmp_path), out, Settings("torch", "share=0.25", clips=5))
    assert [file.name for file in out.parent.iterdir()] == ["toy.pt2"]
    assert torch.export.load(out).module()(torch.randn(3, 2, 4, 6, 6)).shape == (3, 3)
    assert told["fell_back"] == slower
    # backbone.4 does not pay and computes all.
    assert told["frozen"] == ([] if slower else ["backbone.1"])
    assert told["inputs"] == ["batch", 2, 4, 6, 6]
    assert (told["clips"], told["convolutions"]) == (5, 2)
    gmacs = {row["network"]: row["gmacs"] for row in told["rows"]}
    assert gmacs["snapshot"] == gmacs["static"] if slower else gmacs["snapshot"] < gmacs["static"]
    ms = {row["network"]: row["ms"] for row in told["rows"]}
    assert ms["snapshot"] <= ms["static"] == 10.0
    assert 0 <= told["dynamic"]["agreement"] <= 1


def test_a_file_whose_answers_differ_is_not_written(tmp_path, monkeypatch):
    timed = speeds(static=100.0, snapshot=100.0, dynamic=50.0)
    monkeypatch.setattr(one_policy, "timed_in_turn", timed)
    right, load = TARGETS["torch"], targets.load_torch
    wrong = replace(right, exact=lambda path: lambda x: 1.1 * load(path)(x))
    monkeypatch.setitem(TARGETS, "torch", wrong)
    out = tmp_path / "new" / "toy.pt2"
    with pytest.raises(DifferentFunctionError, match="the file in torch answers something else"):
        export(*trained_toy(tmp_path), out, Settings("torch", "full", clips=5))
    assert not list(out.parent.iterdir())
    # What an engine rounds by itself is told of, and is no other function.
    rough = replace(right, load=lambda path: lambda x: 1.5 * load(path)(x))
    monkeypatch.setitem(TARGETS, "torch", rough)
    told = export(*trained_toy(tmp_path), out, Settings("torch", "full", clips=5))["dynamic"]
    assert told["difference"] > 0.1 * told["largest_score"]


def test_networks_that_choose_otherwise_are_refused_by_name():
    rival = nn.Sequential(nn.Conv2d(4, 8, 3))
    make_cgnet(rival, CGNetConfig(targets="0"))
    with pytest.raises(ExportError, match="a CGConv2d chooses otherwise .* begins with VaRed"):
        refuse_rivals(rival)
    refuse_rivals(nn.Sequential(VaRedConv2d(4, 8, 3), nn.Conv2d(8, 8, 3)))


def test_networks_are_timed_over_the_same_clips():
    seen, clips = [], [torch.full((1, 1), i) for i in range(5)]
    sides = side_of("dynamic", lambda: lambda x: seen.append(int(x)) or x, clips, ExitStack())
    sides["dynamic"]()
    assert seen == [0, 1, 2, 3, 4]


AFTER_ENGINES = """
import os, signal, torch
from torch import nn
from vared_mm.export.targets import load_openvino, openvino_precision, write_openvino
from vared_mm.fast.engines import openvino
from pathlib import Path

network, example = nn.Conv2d(3, 4, 3).eval(), torch.rand(2, 3, 8, 8)
write_openvino(network, example, Path("net.xml"))
runs = [openvino(network, example), load_openvino(Path("net.xml")), openvino_precision()]
while runs:
    del runs[0]
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_process_goes_on_after_networks_of_openvino_are_gone(tmp_path):
    # Ctrl-C and the end of a DataLoader's worker are such signals, too.
    imported("openvino")
    command = [sys.executable, "-c", AFTER_ENGINES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout.split()) == (0, ["handled"]), done.stderr[-2000:]
