"""The table of milliseconds, by what is known of its layers."""

import pytest
import torch
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.fast.branch import Branch
from vared_mm.fast.latency import _latency, latency_table, least_ms
from vared_mm.method import DynamicConfig, make_dynamic


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(4, 64, 3, padding=1), nn.ReLU(), nn.Conv3d(64, 6, 1))
    settings = DynamicConfig(targets=r"(?P<block>)\d", share="block")
    make_dynamic(model, settings)
    return model.eval()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_layer_has_a_time_for_each_choice_and_followers_no_gate(precision):
    x = torch.randn(1, 4, 6, 8, 8)
    prepared = prepare_for_inference(network(), x, precision=precision)
    table = latency_table(prepared, lambda: prepared(x), repeats=2)
    assert [layer.name for layer in table] == ["0", "2"]
    assert list(table[0].choice_ms) == [(64, 1), (64, 2), (32, 1), (32, 2)]
    assert list(table[1].choice_ms) == [(6, 1), (6, 2), (3, 1), (3, 2)]
    assert table[0].gate_ms > 0
    assert table[1].gate_ms == 0
    assert [layer.leader for layer in table] == [None, "0"]
    assert not prepared[0]._forward_pre_hooks
    torch.testing.assert_close(prepared(x), prepared(x))


def test_convolutions_that_the_preparation_leaves_as_they_are_stand_in_the_table_too(monkeypatch):
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 6, 3, padding=1, padding_mode="replicate")
    model, x = nn.Sequential(plain, nn.ReLU()), torch.randn(2, 4, 6, 8, 8)
    with torch.no_grad():
        expected = plain(x)
    make_dynamic(model, DynamicConfig(targets="0"))
    prepared = prepare_for_inference(model.eval(), x)
    answers = []

    def answer(work, repeats):
        answers.append(work())
        return 1.0

    monkeypatch.setattr("vared_mm.fast.latency.least_ms", answer)
    (layer,) = latency_table(prepared, lambda: prepared(x))
    assert list(layer.choice_ms) == [(6, 1), (6, 2), (3, 1), (3, 2)]
    *choices, gate, alone = answers
    assert torch.equal(alone, expected)
    assert gate.shape == (2, 4)
    # One path of each axis is open by 0.7; what it computes itself is the convolution's, frame 0.
    for maps, (channels, _) in zip(choices, layer.choice_ms, strict=True):
        torch.testing.assert_close(maps[:, :channels, 0], 0.49 * expected[:, :channels, 0])


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
        _latency("conv", prepared.conv, None, (x, prepared.bias), repeats=1)
    for clips, gates, other in seen:
        assert clips.is_contiguous(memory_format=layout)
        assert other.shape == (5, 4, 2, 4, 4)
        assert other.is_contiguous(memory_format=layout)
        assert gates.shape == (5, 4)
        assert gates.is_contiguous()
    assert len(seen) == 4


def test_the_least_of_the_repeats_counts_and_the_first_is_a_warm_up(monkeypatch):
    clock = iter([0.0, 0.001, 1.0, 1.005, 2.0, 2.003, 3.0, 3.004])
    monkeypatch.setattr("vared_mm.fast.latency.time.perf_counter", lambda: next(clock))
    assert least_ms(lambda: None, repeats=3) == pytest.approx(3.0)
