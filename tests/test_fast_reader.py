"""A depthwise convolution that follows the gate of the one before it reads what that computed."""

import pytest
import torch
from convolutions import gates_of, patterns
from test_fast_prepare import assert_close, lively
from torch import nn

from vared_mm.fast import native_conv, prepare_for_inference
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.errors import DynamicError
from vared_mm.method.observe import forced_gates, record_cost


class Bottleneck(nn.Module):
    """As in X3D: the depthwise convolution follows the gate of the one before it."""

    def __init__(self, planes=38):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(4, planes, 1), nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, padding=1, groups=planes)
        self.conv3 = nn.Conv3d(planes, 4, 1)

    def forward(self, x):
        return self.conv3(self.conv2(self.norm1(self.conv1(x)).relu())).relu()


def under_one_gate(model, x, search_space):
    """The model with its three convolutions made dynamic, prepared, and the clips."""
    settings = DynamicConfig(targets=r"(?P<block>)conv\d", share="block", search_space=search_space)
    make_dynamic(model, settings)
    model = lively(model, x)
    return model, prepare_for_inference(model, x), x


@pytest.fixture(scope="module", params=[2, 3])
def bottleneck(request):
    torch.manual_seed(0)
    return under_one_gate(Bottleneck(), torch.randn(2, 4, 5, 6, 7), request.param)


@pytest.mark.usefixtures("_float64_by_default")
@torch.no_grad()
def test_the_user_s_default_type_does_not_matter(bottleneck):
    model, prepared, x = bottleneck
    assert_close(prepared(x), model(x))
    assert_close(prepare_for_inference(model, x)(x), model(x))


@torch.no_grad()
def test_a_depthwise_convolution_gets_what_it_reads_and_answers_the_same(bottleneck):
    model, prepared, x = bottleneck
    for pattern in patterns(model.conv1):
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
    made = {branch.channels for branch in prepared.conv1.forward.run._branches.values()}
    # Half and a quarter of 38 in whole vectors of 16.
    assert made == ({38, 32} if model.conv1.dynamic.search_space == 2 else {38, 32, 16})


@torch.no_grad()
def test_who_looks_at_a_convolution_sees_all_its_channels(bottleneck):
    model, prepared, x = bottleneck
    half = gates_of(((0, 1, 0) if model.conv1.dynamic.search_space == 3 else (0, 1)) * 2)
    with forced_gates(model, half), forced_gates(prepared, half):
        with record_cost(model) as plain, record_cost(prepared) as fast:
            assert_close(prepared(x), model(x))
        assert plain.per_layer(2)["full"].equal(fast.per_layer(2)["full"])


@torch.no_grad()
def test_gates_of_a_block_that_answer_unlike_are_refused(bottleneck):
    _, prepared, x = bottleneck
    space = prepared.conv1.dynamic.search_space
    everything = torch.full((2, 2 * space), 0.7)
    half = ([0.0, 0.7] + [0.0] * (space - 2)) * 2
    with forced_gates(prepared, half):
        handle = prepared.conv2.gate.register_forward_hook(lambda *args: everything)
        with pytest.raises(DynamicError, match="was left 32 channels and wants 38"):
            prepared(x)
        handle.remove()


class Joined(nn.Module):
    """Something is between the first convolution and the depthwise one, or reads it too."""

    def __init__(self, way, planes=38):
        super().__init__()
        self.way, self.conv1 = way, nn.Conv3d(4, planes, 1, bias=False)
        self.skip = nn.Conv3d(4, planes, 1)
        self.conv2 = nn.Conv3d(planes, planes, 3, padding=1, groups=planes, bias=False)

    def forward(self, x):
        y = self.conv1(x)
        if self.way == "a sum":
            return self.conv2((y + self.skip(x)).relu())
        if self.way == "a sum of rows":
            return self.conv2(y + self.skip(x)[:1])
        if self.way == "another operation":
            return self.conv2(y.flip(1))
        if self.way == "another reader":
            return self.conv2(y), y
        return self.conv2(y) + y


@pytest.mark.parametrize("suits", [True, False])
@pytest.mark.parametrize(
    "way", ["a sum", "a sum of rows", "another operation", "another reader", "a sum after"]
)
@torch.no_grad()
def test_what_more_than_the_reader_reads_is_made_as_a_whole(way, suits, monkeypatch):
    monkeypatch.setattr(native_conv, "suits", lambda: suits)
    torch.manual_seed(0)
    model, prepared, x = under_one_gate(Joined(way), torch.randn(2, 4, 3, 4, 5), 2)
    for pattern in patterns(model.conv1):
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
