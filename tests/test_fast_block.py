"""A whole block that decides once, and leaves out the frames that its last convolution skips."""

from unittest.mock import Mock

import pytest
import torch
from convolutions import gates_of, patterns
from test_fast_prepare import assert_close
from test_fast_reader import under_one_gate
from torch import nn

from vared_mm.fast import native_conv
from vared_mm.fast.block import Block
from vared_mm.method.observe import forced_gates, record_cost


class Bottleneck(nn.Module):
    """As in X3D; `end` tells what the last convolution reads, and what is added to it."""

    def __init__(self, c=34, stride=1, end="swish"):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(16, c, 1, bias=False), nn.BatchNorm3d(c)
        strides = (1, stride, stride)
        self.conv2 = nn.Conv3d(c, c, 3, strides, 1, groups=c, bias=False)
        self.norm2 = nn.BatchNorm3d(c)
        self.conv3, self.norm3 = nn.Conv3d(c, 16, 1, bias=False), nn.BatchNorm3d(16)
        self.pool, self.fc1, self.fc2 = (
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(c, 8, 1),
            nn.Conv3d(8, c, 1),
        )
        self.shortcut = nn.Conv3d(16, 16, 1, strides)
        self.end = end

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        if self.end == "excite":
            y = y * torch.sigmoid(self.fc2(self.fc1(self.pool(y)).relu()))
        y = self.norm3(self.conv3(y * torch.sigmoid(y)))
        if self.end == "nothing added":
            return y
        other = self.shortcut(x)
        if self.end == "one pixel added":
            other = other.mean((2, 3, 4), keepdim=True)
        return (y + other).relu()


def made(end="swish", space=2, channels=34, stride=1, size=(5, 6, 7)):
    torch.manual_seed(0)
    # Unlike each other, so that the gate has something to tell apart.
    x = torch.stack([scale * torch.randn(16, *size) + scale for scale in (-1.5, 0.5, 1.5)])
    model, prepared, x = under_one_gate(Bottleneck(channels, stride, end), x, space)
    assert any(isinstance(m, Block) for m in prepared.forward.graph.modules())
    return model, prepared, x


@pytest.fixture
def apart(monkeypatch):
    """Of the calls that rebuild: how far apart the frames are that they make."""
    kernels = Mock(wraps=native_conv.library())
    monkeypatch.setattr(native_conv, "library", lambda: kernels)
    return lambda: [call.args[5] for call in kernels.expand_and_rebuild.call_args_list]


# name: what is between and behind, search space, channels, stride, size
KINDS = {
    "swish": ("swish", 2, 34, 1, (5, 6, 7)),
    "swish, search space 3": ("swish", 3, 64, 1, (6, 3, 9)),
    "every second row, fewer frames than a period": ("swish", 3, 64, 2, (3, 8, 5)),
    "excited": ("excite", 2, 34, 1, (5, 6, 7)),
    "excited, search space 3": ("excite", 3, 64, 2, (9, 3, 4)),
    "nothing added": ("nothing added", 2, 34, 2, (4, 6, 7)),
    "one pixel added": ("one pixel added", 2, 34, 1, (4, 6, 7)),
}


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_pattern_has_its_answer_from_the_frames_that_are_read(kind, apart):
    end, space, *rest = KINDS[kind]
    model, prepared, x = made(end, space, *rest)
    apart_before = len(apart())
    expected = []
    for pattern in patterns(model.conv1):
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
        everything = pattern == (1, *[0] * (space - 1)) * 2
        leaves_out = end in ("swish", "nothing added")
        if not everything:
            expected.append(model.conv3.extent(tuple(map(bool, pattern)))[1] if leaves_out else 1)
    assert apart()[apart_before:] == expected
    assert not leaves_out or max(expected) == 2 ** (space - 1)


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("end", ["swish", "excite"])
@torch.no_grad()
def test_samples_that_choose_differently_pass_in_one_call_for_each_choice(end, apart):
    model, prepared, x = made(end)
    with record_cost(model) as record:
        expected = model(x)
    _, _, gates, _ = record.seen[0]
    choices = set(map(tuple, (gates > 0).tolist()))
    assert len(choices) > 1
    before = len(apart())
    assert_close(prepared(x), expected)
    # Where one path of an axis computes everything, nothing is rebuilt.
    assert len(apart()) - before == len(choices - {(True, False, True, False)}) > 0
    assert_close(prepared(x[1:2]), expected[1:2])


HALF = [0.7, 0.0, 0.0, 0.6]


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3"])
@torch.no_grad()
def test_who_looks_at_a_convolution_sees_all_its_frames(name, apart):
    model, prepared, x = made()
    seen = []
    for one in (model, prepared):
        conv = one.get_submodule(name)
        conv.register_forward_hook(lambda conv, args, out: seen.append(args[0].shape))
    with forced_gates(model, HALF), forced_gates(prepared, HALF):
        apart_before = len(apart())
        assert_close(prepared(x), model(x))
        assert 2 not in apart()[apart_before:]
        with record_cost(model) as plain, record_cost(prepared) as fast:
            assert_close(prepared(x), model(x))
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert plain.per_layer(3)["full"].equal(fast.per_layer(3)["full"])


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("name", ["conv2", "conv3"])
@torch.no_grad()
def test_a_gate_that_answers_unlike_the_others_is_followed(name):
    model, prepared, x = made()
    everything = torch.tensor([[0.7, 0.0, 0.7, 0.0]]).repeat(len(x), 1)
    with forced_gates(model, HALF), forced_gates(prepared, HALF):
        for one in (model, prepared):
            gate = one.get_submodule(name).gate
            gate.register_forward_hook(lambda *args: everything)
        assert_close(prepared(x), model(x))


@pytest.mark.usefixtures("_by")
@torch.no_grad()
def test_torch_answers_the_same_and_an_empty_batch_has_an_empty_answer():
    model, prepared, x = made()
    with forced_gates(model, HALF), forced_gates(prepared, HALF):
        assert_close(prepared(x), model(x))
    assert prepared(x[:0]).shape == (0, 16, 5, 6, 7)


@torch.no_grad()
def test_a_clip_that_is_no_batch_is_refused():
    _, prepared, x = made("nothing added")
    with pytest.raises(ValueError, match="a prepared convolution takes a batch"):
        prepared(x[0])
