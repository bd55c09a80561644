"""A pointwise convolution and the depthwise one after it in one call: who looks, who decides."""

from unittest.mock import Mock

import pytest
import torch
from convolutions import gates_of, patterns
from test_fast_prepare import assert_close, lively, under_one_gate
from torch import nn

from vared_mm.fast import native_conv, prepare_for_inference
from vared_mm.fast.static_twin import static_twin
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import forced_gates, record_cost


class Block(nn.Module):
    """As in X3D, whose convolutions have no bias."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(4, 38, 1, bias=False), nn.BatchNorm3d(38)
        self.conv2 = nn.Conv3d(38, 38, 3, (1, 2, 2), padding=1, groups=38, bias=False)
        self.norm2, self.conv3 = nn.BatchNorm3d(38), nn.Conv3d(38, 4, 1, bias=False)

    def forward(self, x):
        return self.conv3(self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())))


@pytest.fixture(scope="module", params=[2, 3])
def block(request):
    torch.manual_seed(0)
    # Unlike each other, so that the gate has something to tell apart.
    x = torch.stack([scale * torch.randn(4, 5, 6, 7) + scale for scale in (-1.5, 0.5, 1.5)])
    return under_one_gate(Block(), x, request.param)


@pytest.fixture
def expand(monkeypatch):
    """Counts the calls of the kernel that does both."""
    kernels = Mock(wraps=native_conv.library())
    monkeypatch.setattr(native_conv, "library", lambda: kernels)
    return kernels.expand


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_every_pattern_has_its_answer(block, expand):
    model, prepared, x = block
    space = model.conv1.dynamic.search_space
    for pattern in patterns(model.conv1):
        expand.reset_mock()
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
        # What the first one rebuilds, it writes: all frames, and one choice of the channels.
        alone = pattern[space:] == (1, *[0] * (space - 1)) and sum(pattern[:space]) == 1
        assert expand.call_count == alone, pattern


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_samples_that_choose_differently_are_answered_each_for_itself(block):
    model, prepared, x = block
    with record_cost(model) as record:
        expected = model(x)
    _, _, gates, _ = record.seen[0]
    assert len(set(map(tuple, (gates > 0).tolist()))) > 1
    assert_close(prepared(x), expected)


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_who_looks_between_sees_both(block, expand):
    model, prepared, x = block
    space = model.conv1.dynamic.search_space
    half = [0.0, 0.7, 0.0][:space] + [0.7, 0.0, 0.0][:space]
    with forced_gates(model, half), forced_gates(prepared, half):
        with record_cost(model) as plain, record_cost(prepared) as fast:
            assert_close(prepared(x), model(x))
        assert not expand.called
        assert plain.per_layer(3)["full"].equal(fast.per_layer(3)["full"])


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_static_ones_are_one_call_too(block, expand):
    model, _, x = block
    twin = static_twin(model)
    prepared = prepare_for_inference(twin, x)
    expand.reset_mock()
    assert_close(prepared(x), twin(x))
    assert expand.call_count == 1


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_kernels_too_large_for_ours_are_left_to_torch():
    torch.manual_seed(0)
    x, model = torch.randn(2, 4, 5, 6, 7), Block()
    settings = DynamicConfig(targets=r"(?P<block>)conv\d", share="block", cheap_kernel=9)
    make_dynamic(model, settings)
    model = lively(model, x)
    prepared = prepare_for_inference(model, x)
    # The first convolution rebuilds nothing, the second does.
    half = [0.0, 0.7, 0.7, 0.0]
    with forced_gates(model, half), forced_gates(prepared, half):
        assert_close(prepared(x), model(x))


@torch.no_grad()
def test_an_empty_batch_gives_an_empty_result(block):
    model, prepared, x = block
    assert prepared(x[:0]).shape == model(x[:0]).shape == (0, 4, 5, 3, 4)
    twin = static_twin(model)
    assert prepare_for_inference(twin, x)(x[:0]).shape == (0, 4, 5, 3, 4)
