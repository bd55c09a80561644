"""A pointwise convolution and the depthwise one after it in one call: who looks, who decides."""

from unittest.mock import Mock

import pytest
import torch
from convolutions import gates_of, patterns
from test_fast_prepare import assert_close, lively
from test_fast_reader import under_one_gate
from torch import nn

from vared_mm.fast import native_conv, prepare_for_inference
from vared_mm.fast.static_twin import static_twin
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import forced_gates, record_cost


class Block(nn.Module):
    """As in X3D, whose convolutions have no bias."""

    def __init__(self, c=38, frames=3, stride=2):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(4, c, 1, bias=False), nn.BatchNorm3d(c)
        kernel, padding, strides = (frames, 3, 3), (frames // 2, 1, 1), (1, stride, stride)
        self.conv2 = nn.Conv3d(c, c, kernel, strides, padding, groups=c, bias=False)
        self.norm2, self.conv3 = nn.BatchNorm3d(c), nn.Conv3d(c, 8, 1, bias=False)

    def forward(self, x):
        return self.conv3(self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())))


# The search space and the channels; 38 cannot be parted in four.
@pytest.fixture(scope="module", params=[(2, 38), (3, 38), (3, 64)])
def block(request):
    torch.manual_seed(0)
    space, channels = request.param
    # Unlike each other, so that the gate has something to tell apart.
    x = torch.stack([scale * torch.randn(4, 5, 6, 7) + scale for scale in (-1.5, 0.5, 1.5)])
    return under_one_gate(Block(channels), x, space)


@pytest.fixture
def kernels(monkeypatch):
    """Counts the calls of the kernels that do both."""
    kernels = Mock(wraps=native_conv.library())
    monkeypatch.setattr(native_conv, "library", lambda: kernels)
    return kernels


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_every_pattern_has_its_answer(block, kernels):
    model, prepared, x = block
    everything = (1, *[0] * (model.conv1.dynamic.search_space - 1)) * 2
    in_columns = model.conv1.widths[-1] >= 16
    for pattern in patterns(model.conv1):
        kernels.reset_mock()
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
        assert kernels.expand.call_count == (pattern == everything), pattern
        rebuilt = in_columns and pattern != everything
        assert kernels.expand_and_rebuild.call_count == rebuilt, pattern


# name: channels, frames of the kernel, stride, search space, size
SIZES = {
    "one pixel": (32, 3, 1, 2, (1, 1, 1)),
    "one row": (54, 3, 2, 2, (3, 1, 9)),
    "odd frames": (34, 3, 1, 2, (5, 5, 16)),
    "frames alone": (40, 1, 2, 2, (4, 6, 5)),
    "strips of rows": (32, 3, 1, 2, (3, 9, 300)),
    "strips, every second row": (64, 3, 2, 3, (4, 11, 201)),
    "eight segments": (136, 3, 1, 4, (9, 4, 3)),
}


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_columns_of_any_size_are_rebuilt(name, kernels):
    torch.manual_seed(0)
    channels, frames, stride, space, size = SIZES[name]
    x = torch.randn(2, 4, *size)
    model, prepared, _ = under_one_gate(Block(channels, frames, stride), x, space)
    kernels.reset_mock()
    full, half, rest = (1, *[0] * (space - 1)), (0, 1, *[0] * (space - 2)), (1,) * space
    tried = [half + full, full + half, half + half, rest + full, full + rest, rest + rest]
    for pattern in tried:
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
    assert kernels.expand_and_rebuild.call_count == len(tried)


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
def test_who_looks_between_sees_both(block, kernels):
    model, prepared, x = block
    space = model.conv1.dynamic.search_space
    half = [0.0, 0.7, 0.0][:space] + [0.7, 0.0, 0.0][:space]
    with forced_gates(model, half), forced_gates(prepared, half):
        with record_cost(model) as plain, record_cost(prepared) as fast:
            assert_close(prepared(x), model(x))
        assert not kernels.expand.called | kernels.expand_and_rebuild.called
        assert plain.per_layer(3)["full"].equal(fast.per_layer(3)["full"])


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_static_ones_are_one_call_too(block, kernels):
    model, _, x = block
    twin = static_twin(model)
    prepared = prepare_for_inference(twin, x)
    kernels.reset_mock()
    assert_close(prepared(x), twin(x))
    assert kernels.expand.call_count == 1


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
    assert prepared(x[:0]).shape == model(x[:0]).shape == (0, 8, 5, 3, 4)
    twin = static_twin(model)
    assert prepare_for_inference(twin, x)(x[:0]).shape == (0, 8, 5, 3, 4)
