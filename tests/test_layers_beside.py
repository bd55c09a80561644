"""Convolutions by kind, ours beside OpenVINO's: which they are, and that all MACs are told."""

import json
import sys

import pytest
import torch
from command_lines import tool_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.compat import config_path
from vared_mm.fast.engines import Network
from vared_mm.fast.layers_beside import Kind, joined, layers_beside


def test_kinds_of_one_kernel_are_told_together():
    a, b, c = (Kind((n, 1, 1, 1), (5, 5)) for n in (1, 2, 3))
    assert joined({(a,): 1.0, (b,): 1.0}) == [{a}, {b}]
    assert joined({(a, b): 1.0, (c,): 1.0, (b, c): 1.0}) == [{a, b, c}]
    assert Kind((8, 3, 2, 3, 3), (4, 5, 6)).macs == 8 * 3 * 18 * 120
    assert str(Kind((8, 3, 3, 3), (5, 6))) == "3 to 8, 3x3, 5x6"


def test_each_convolution_is_timed_on_both_sides_and_no_mac_is_lost():
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    conv = [nn.Conv3d(3, 16, 3, padding=1), nn.Conv3d(16, 16, 1), nn.Conv3d(16, 16, 1)]
    # In OpenVINO a convolution by groups has a weight of one dimension more.
    conv += [nn.Conv3d(16, 16, 3, padding=1, groups=16), nn.Conv3d(16, 20, 1, stride=2)]
    net = Network(nn.Sequential(*(m for c in conv for m in (c, nn.ReLU()))).eval())
    x = torch.randn(2, 3, 4, 6, 6)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    rows = layers_beside(net, x, 2)
    assert 2 * sum(row.macs for row in rows) == counter.get_total_flops()
    assert sum(row.convolutions for row in rows) == 5
    assert all(row.ours > 0 and row.openvino > 0 and row.ms_at_peak > 0 for row in rows)
    # The second pointwise one and the depthwise one that reads it may be one kernel's.
    assert {name for row in rows for name in row.kinds} == {
        "3 to 16, 3x3x3, 4x6x6", "16 to 16, 1x1x1, 4x6x6", "1 to 16, 3x3x3, 4x6x6",
        "16 to 20, 1x1x1, 2x3x3",
    }  # fmt: skip


def test_the_command_line_prints_them(tmp_path, monkeypatch, capsys):
    pytest.importorskip("openvino")
    monkeypatch.setattr(sys, "argv", [
        "benchmark.py", config_path("small/vared_x3d.py"), "--shape", "8", "36", "48",
        "--batch", "1", "--share", "all", "--repeats", "1", "--threads", "1", "--layers-beside",
        "--json", str(tmp_path / "speed.json"),
    ])  # fmt: skip
    tool_of("benchmark").main()
    told = " ".join(capsys.readouterr().out.split())
    assert "ms of convolutions, static, batch 1" in told
    assert "│ all │" in told
    rows = json.loads((tmp_path / "speed.json").read_text())["layers_beside"]["1"]
    # Pointwise and depthwise ones of a block's beginning stand in one line.
    assert any(len(row["kinds"]) > 1 for row in rows)
