"""The table of milliseconds, by what is known of its layers."""

import pytest
import torch
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.fast.branch import Branch
from vared_mm.fast.latency import (
    LayerLatency,
    _latency,
    gates_that_do_not_pay,
    latency_table,
    least_ms,
)
from vared_mm.method import DynamicConfig, make_dynamic


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(4, 64, 3, padding=1), nn.ReLU(), nn.Conv3d(64, 6, 1))
    settings = DynamicConfig(targets=r"(?P<block>)\d", share="block")
    make_dynamic(model, settings)
    return model.eval()


def test_each_layer_has_a_time_for_each_choice_and_followers_no_gate():
    x = torch.randn(1, 4, 6, 8, 8)
    prepared = prepare_for_inference(network(), x)
    table = latency_table(prepared, lambda: prepared(x), repeats=2)
    assert [layer.name for layer in table] == ["0", "2"]
    assert list(table[0].choice_ms) == [(64, 1), (64, 2), (32, 1), (32, 2)]
    assert list(table[1].choice_ms) == [(6, 1), (6, 2), (3, 1), (3, 2)]
    assert table[0].gate_ms > 0
    assert table[1].gate_ms == 0
    assert not prepared[0]._forward_pre_hooks
    torch.testing.assert_close(prepared(x), prepared(x))


def test_branches_are_timed_with_arguments_they_may_read_to_the_end(monkeypatch):
    class AddsBias(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bias = nn.Conv3d(3, 4, 1), nn.Parameter(torch.ones(1, 4, 1, 1, 1))

        def forward(self, x):
            return self.conv(x) + self.bias

    model, x = AddsBias(), torch.randn(5, 3, 2, 4, 4)
    make_dynamic(model, DynamicConfig(targets="conv"))
    prepared = prepare_for_inference(model.eval(), x)
    seen = []
    monkeypatch.setattr(Branch, "__call__", lambda branch, *args: seen.append(args))
    monkeypatch.setattr("vared_mm.fast.latency.least_ms", lambda work, repeats: len([work()]))
    layout = torch.channels_last_3d
    with torch.no_grad():
        _latency("conv", prepared.conv, (x, prepared.bias), repeats=1)
    for clips, gates, other in seen:
        assert clips.is_contiguous(memory_format=layout)
        assert other.shape == (5, 4, 2, 4, 4)
        assert other.is_contiguous(memory_format=layout)
        assert gates.shape == (5, 4)
        assert gates.is_contiguous()
    assert len(seen) == 4


def test_a_gate_pays_if_its_fastest_choice_and_itself_take_less_than_the_plain_convolution():
    pays = LayerLatency("a", 1.0, 0.1, {(8, 1): 1.2, (4, 1): 0.8})
    even = LayerLatency("b", 1.0, 0.25, {(8, 1): 1.2, (4, 1): 0.75})
    costs = LayerLatency("c", 1.0, 0.3, {(8, 1): 1.2, (4, 1): 0.8})
    assert pays.best_saving_ms == pytest.approx(0.1)
    assert gates_that_do_not_pay([pays, even, costs]) == ["b", "c"]
    assert pays.as_json()["choices"] == [
        {"channels": 8, "stride": 1, "ms": 1.2},
        {"channels": 4, "stride": 1, "ms": 0.8},
    ]


def test_the_least_of_the_repeats_counts_and_the_first_is_a_warm_up(monkeypatch):
    clock = iter([0.0, 0.001, 1.0, 1.005, 2.0, 2.003, 3.0, 3.004])
    monkeypatch.setattr("vared_mm.fast.latency.time.perf_counter", lambda: next(clock))
    assert least_ms(lambda: None, repeats=3) == pytest.approx(3.0)
