"""Several policies as a file each, and a router between them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import tool_of
from exported_toy import speeds, trained_toy
from installed import imported
from torch import nn

from vared_mm.export import one_policy, several_policies
from vared_mm.export.exported import export
from vared_mm.export.policy import nearest
from vared_mm.export.router import Router, Zeros, logistic, router, seen_by_first, up_to
from vared_mm.export.several_policies import checked_router
from vared_mm.export.targets import TARGETS, ExportError
from vared_mm.export.trained import Settings
from vared_mm.fast.engines import Network
from vared_mm.fast.sides import DifferentFunctionError
from vared_mm.method.gate import pooled_maps


def test_a_clip_is_for_the_policy_that_opens_most_paths_as_it_does():
    policies = [{"a": [1.0, 0], "b": [0, 0.5, 0.2, 0]}, {"a": [0, 1.0], "b": [0, 0.5, 0.2, 0]}]
    rows = [([0.7, 0], [0, 0.1, 0.9, 0]), ([0, 0.3], [0.2, 0, 0.1, 0]), ([1, 1], [0, 1, 1, 0])]
    gates = [
        {"b": torch.tensor([[[b]]], dtype=torch.float), "a": torch.tensor([[[a]]]).float()}
        for a, b in rows
    ]
    # The last one is as far from both.
    places, alike = nearest(policies, gates)
    assert places.tolist() == [0, 1, 0]
    assert alike.tolist() == [True, False, False]


def test_classes_are_parted_half_way_and_what_never_changes_is_left_out():
    x = torch.tensor([[-1.0, 7.0], [1.0, 7.0], [3.0, 7.0]]).repeat(4, 1)
    weight, bias = logistic(x, torch.tensor([0, 1, 2]).repeat(4))
    assert weight.isfinite().all()
    points = torch.tensor([[-0.5, 7.0], [0.5, 9.0], [1.5, 7.0], [2.5, 5.0]])
    assert (points @ weight.T + bias).argmax(1).tolist() == [0, 1, 1, 2]
    assert torch.equal(weight[:, 1], torch.zeros(3))


def small_network():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU(inplace=True))
    later = nn.Sequential(nn.Conv3d(3, 50, 3, padding=1), nn.ReLU(), nn.Conv3d(50, 4, 1))
    return Network(nn.Sequential(stem, later, nn.AdaptiveAvgPool3d(1), nn.Flatten())).eval()


@torch.no_grad()
def test_a_router_has_what_comes_before_the_first_gate_and_nothing_after(tmp_path):
    network, clips = small_network(), list(torch.randn(12, 2, 4, 5, 5).split(1))
    stem = up_to(network, "1.0", clips[0])
    assert sum(p.numel() for p in stem.parameters()) == 3 * 2 * 27 + 3
    assert [type(m) for m in stem.model[1]] == [Zeros, nn.ReLU, Zeros]
    maps = network.model[0](clips[0])
    assert torch.equal(seen_by_first(stem, "1.0", clips[0]), pooled_maps(maps, torch.float, True))
    loud = torch.tensor([float(clip.std() > torch.cat(clips).std()) for clip in clips]).long()
    made = router(network, "1.0", clips, loud)
    assert (torch.cat([made(clip) for clip in clips]) == loud).float().mean() > 0.9
    file = tmp_path / "router.pt2"
    TARGETS["torch"].write(made, torch.cat(clips[:2]), file)
    assert torch.equal(TARGETS["torch"].load(file)(torch.cat(clips)), made(torch.cat(clips)))
    assert (
        checked_router(TARGETS["torch"], file, made, clips).tolist()
        == made(torch.cat(clips)).tolist()
    )
    other = Router(made.network, "1.0", -made.weight, -made.bias)
    with pytest.raises(DifferentFunctionError, match="the router in torch answers something else"):
        checked_router(TARGETS["torch"], file, other, clips)


@pytest.mark.parametrize("to", ["torch", "onnx", "openvino"])
def test_policies_are_written_beside_a_router_and_served(to, tmp_path, monkeypatch):
    for package in {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["openvino"]}.get(to, []):
        imported(package)
    timed = speeds(static=9.0, policy_0=12.0, policy_1=7.0, routed=8.0, dynamic=5.0)
    monkeypatch.setattr(several_policies, "timed_in_turn", timed)
    out = tmp_path / "new" / "served"
    monkeypatch.setattr(one_policy, "layer_times", lambda *arguments: [])
    settings = Settings(to, policies=2, clips=5)
    told = export(*trained_toy(tmp_path), out, settings)
    suffix = TARGETS[to].suffix
    names = {f"{name}{suffix}" for name in ("policy-0", "policy-1", "router")}
    assert {file.name for file in out.iterdir() if file.suffix != ".bin"} == names
    assert [file.name for file in out.parent.iterdir()] == ["served"]
    # The second one is slower than the static network, and computes all.
    assert [len(frozen) for frozen in told["frozen"]] == [2, 0]
    assert told["fell_back"] == ["policy-1"]
    rows = {row["network"]: row for row in told["rows"]}
    assert rows["policy-1"]["ms"] == rows["static"]["ms"] > rows["policy-0"]["ms"]
    lines = tool_of("export").lines(told)
    assert "policy-1 was slower than the static network, whose file stands in its place" in lines
    assert "routed, clips take longer than in the static network: --policy full is faster" in lines
    assert list(rows) == ["static", "policy-0", "policy-1", "routed", "dynamic"]
    shares = told["router"]["shares"]
    assert sum(shares) == pytest.approx(1)
    assert told["router"]["agreement"] <= told["coverage"] <= 1
    mixed = sum(s * rows[f"policy-{i}"]["gmacs"] for i, s in enumerate(shares))
    # And two linear layers' worth: 2 · 4 features for 2 policies after a stem of 4 · 2 filters.
    assert 1e9 * (rows["routed"]["gmacs"] - mixed) == pytest.approx(4 * 2 * 144 + 16, abs=1)
    if to != "torch":
        clips = torch.randn(6, 2, 4, 6, 6)
        served = served_by_example(out)(clips.numpy())
        routes = TARGETS[to].exact(out / f"router{suffix}")(clips)
        for clip, scores, route in zip(clips, served, routes.tolist(), strict=True):
            expected = TARGETS[to].load(out / f"policy-{route}{suffix}")(clip[None])[0]
            assert np.allclose(scores, expected, atol=1e-2)


def served_by_example(folder):
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    try:
        from serve_policies import Served
    finally:
        sys.path.pop(0)
    return Served(folder)


def test_more_policies_than_clips_chose_are_refused(tmp_path):
    with pytest.raises(
        ExportError, match=r"--policies is 9, and the 5 clips chose no more than \d"
    ):
        export(*trained_toy(tmp_path), tmp_path / "served", Settings("torch", policies=9, clips=5))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--policies", "1"], "--policies is 1; wanted 2 or more, or --policy most-frequent"),
        (["--policies", "2", "--policy", "full"], "not allowed with argument"),
        (["--out", "net.xml"], "net.xml; wanted the ending .onnx of --to onnx"),
        (["--policies", "2", "--out", "FILE"], "FILE is no folder"),
        (["--to", "openvino", "--out", "net.xml"], "net.bin would be replaced, which is given"),
        (["--json", "net.bin"], "net.bin would be replaced, which is given to be read"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, told, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    monkeypatch.setattr(sys, "argv", ["export.py", "config.py", "net.bin", *options])
    with pytest.raises(SystemExit):
        tool_of("export").parsed()
    assert told in capsys.readouterr().err


def test_files_of_a_former_export_go_and_no_others(tmp_path):
    former = ["policy-0.onnx", "policy-11.xml", "policy-11.bin", "router.pt2", "router.onnx.data"]
    others = ["router.md", "policy.onnx", "policy-0.txt", "labels.txt"]
    for name in (*former, *others):
        (tmp_path / name).touch()
    several_policies.remove_former(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)


def test_what_is_written_is_named_by_the_checkpoint(monkeypatch):
    tool, address = tool_of("export"), "https://host/there/net.pth"
    for options, out in (([], "net.onnx"), (["--policies", "2"], "net-policies")):
        monkeypatch.setattr(sys, "argv", ["export.py", "config.py", address, *options])
        assert tool.parsed().out == Path(out)
