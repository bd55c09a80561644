"""The training step's figures: its memory by hand, its ratios from a clock that is told."""

import json
from contextlib import ExitStack, contextmanager

import pytest
import torch
from command_lines import tool_of
from mmengine.config import ConfigDict
from torch import nn

from vared_mm.fast.training_step import kept_bytes, training_steps
from vared_mm.method import DynamicConfig, make_dynamic

SGD = ConfigDict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))


def test_what_is_kept_are_the_maps_that_the_backward_pass_reads_each_once():
    model = nn.Sequential(nn.Conv3d(2, 4, 1), nn.ReLU(inplace=True), nn.Conv3d(4, 3, 1))
    x = torch.randn(2, 2, 3, 4, 5)
    # The input, the ReLU's maps, which the second convolution reads too, the answer to be squared.
    assert kept_bytes(model, x) == 4 * 2 * 60 * (2 + 4 + 3)


def test_ratios_are_to_the_static_network_and_both_train(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8))
    make_dynamic(model, DynamicConfig())
    before = [p.detach().clone() for p in model.parameters()]
    ran = []

    @contextmanager
    def told(jobs, warm_up, apart):
        # As in a process of its own.
        for name, job in jobs.items():
            with torch.no_grad(), ExitStack() as stack:
                (run,) = job(stack).values()
                network = run.args[0]
                old = network[0].weight.detach().clone()
                run()
                ran.append((name, not torch.equal(old, network[0].weight)))
        seconds = {"static": [0.125, 0.1, 0.08], "dynamic": [0.1, 0.2, 0.125]}
        yield {name: iter(values).__next__ for name, values in seconds.items()}

    monkeypatch.setattr("vared_mm.fast.training_step.clocks_of", told)
    static, dynamic = training_steps(model, SGD, torch.randn(2, 2, 4, 6, 6), 3, 0)
    assert ran == [("static", True), ("dynamic", True)]
    assert (static.ms, static.time_ratio) == (pytest.approx(100), 1)
    assert (dynamic.ms, dynamic.time_ratio) == (pytest.approx(125), pytest.approx(1.25))
    assert dynamic.ms_quartiles == (pytest.approx(1 / 0.009), pytest.approx(1 / 0.0065))
    assert dynamic.kept_ratio == dynamic.kept_mb / static.kept_mb
    # 2 clips of 144 pixels: 2 channels in, 8 for the norm and 8 to be squared; dynamic, 8 more.
    assert static.kept_mb == pytest.approx(4 * 288 * 18 / 1e6, rel=0.02)
    assert dynamic.kept_mb == pytest.approx(4 * 288 * 26 / 1e6, rel=0.1)
    # The measured networks are copies.
    assert all(map(torch.equal, before, model.parameters()))


def test_the_command_line_prints_both_networks_steps(tmp_path, monkeypatch, capsys):
    result = tmp_path / "steps.json"
    command = [
        "benchmark.py", "configs/small/vared_r2plus1d.py", "--train", "--shape", "4", "16", "16",
        "--batch", "2", "--repeats", "1", "--warm-up", "0", "--threads", "1", "--json", str(result),
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", command)
    tool_of("benchmark").main()
    report = json.loads(result.read_text())
    assert [row["network"] for row in report["training"]] == ["static", "dynamic"]
    assert report["rows"] == []
    assert "ms of a step" in capsys.readouterr().out
