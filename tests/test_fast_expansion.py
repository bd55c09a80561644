"""Blocks of X3D, which follow one gate; their first two convolutions are one call if they can."""

from unittest.mock import patch

import pytest
import torch
from convolutions import gates_of, patterns
from test_fast_prepare import assert_close, lively
from torch import nn

from vared_mm.fast import branch, prepare_for_inference
from vared_mm.fast.branch import Branch
from vared_mm.fast.packed_conv import as_channels_last
from vared_mm.fast.static_twin import static_twin
from vared_mm.kernels import convolutions
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import Look, forced_gates, record_cost


class Bottleneck(nn.Module):
    """As in X3D; `end` tells what the last convolution reads, and what is added to it."""

    def __init__(self, c=38, stride=1, end="swish", frames=3, bias=False):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(16, c, 1, bias=bias), nn.BatchNorm3d(c)
        kernel, padding, strides = (frames, 3, 3), (frames // 2, 1, 1), (1, stride, stride)
        self.conv2 = nn.Conv3d(c, c, kernel, strides, padding, groups=c, bias=bias)
        self.norm2 = nn.BatchNorm3d(c)
        self.conv3, self.norm3 = nn.Conv3d(c, 16, 1, bias=bias), nn.BatchNorm3d(16)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc1, self.fc2 = nn.Conv3d(c, 8, 1), nn.Conv3d(8, c, 1)
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


def under_one_gate(model, x, search_space=2, **settings):
    """The model with its convolutions of a name made dynamic, prepared, and the clips."""
    settings |= dict(targets=r"(?P<block>)conv\d", share="block", search_space=search_space)
    make_dynamic(model, DynamicConfig(**settings))
    model = lively(model, x)
    return model, prepare_for_inference(model, x), x


def made(search_space=2, size=(5, 6, 7), cheap_kernel=3, **settings):
    torch.manual_seed(0)
    # Unlike each other, so that the gate has something to tell apart.
    x = torch.stack([scale * torch.randn(16, *size) + scale for scale in (-1.5, 0.5, 1.5)])
    return under_one_gate(Bottleneck(**settings), x, search_space, cheap_kernel=cheap_kernel)


@pytest.fixture
def expanded():
    """Counts the calls of the kernel that does both."""
    plain = convolutions.Convolving.expanded
    with patch.object(convolutions.Convolving, "expanded", autospec=True) as counted:
        counted.side_effect = plain
        yield counted


KINDS = {
    "swish": {},
    "search space 3": dict(search_space=3, size=(6, 3, 9)),
    "every second row, fewer frames than a period": dict(
        search_space=3, c=64, stride=2, size=(3, 8, 5)
    ),
    "excited": dict(end="excite", stride=2),
    "nothing added": dict(end="nothing added", stride=2, size=(4, 6, 7)),
    "one pixel added": dict(end="one pixel added", size=(4, 6, 7)),
    "one pixel": dict(c=32, size=(1, 1, 1)),
    "frames alone": dict(c=40, stride=2, frames=1, size=(4, 6, 5)),
    "rebuilt of more pixels": dict(c=64, cheap_kernel=5),
}


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_pattern_has_its_answer(kind, expanded):
    model, prepared, x = made(**KINDS[kind])
    space, channels = model.conv1.dynamic.search_space, model.conv1.out_channels
    # Passes of all three, of some patterns, were recorded when it was prepared.
    x = x[1:]
    for pattern in patterns(model.conv1):
        expanded.reset_mock()
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
        # In one call where one path of each axis is open, and channels are all computed or those
        # that are read; frames are rebuilt by 3x3 pixels.
        channel, time = pattern[:space], pattern[space:]
        k = model.conv1.widths[channel.index(1)]
        alone = sum(channel) == sum(time) == 1
        frames = time[0] == 1 or model.conv1.dynamic.cheap_kernel == 3
        one = alone and frames and (k == channels or -(-k // 16) * 16 < channels)
        assert expanded.call_count == one, pattern


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("samples", [1, 6])
@torch.no_grad()
def test_maps_of_many_numbers_are_made_in_pieces(frames, samples, monkeypatch):
    model, prepared, x = made(c=64, frames=frames, size=(4, 6, 7))
    monkeypatch.setattr(branch, "PIECE", 32 * 6 * 7 + 1)
    clips = torch.cat([x, 2 * x])[:samples]
    scales = torch.linspace(0.5, 1.0, samples)[:, None]
    for pattern in patterns(model.conv1):
        # Not the same numbers for all that open the same paths.
        answer = scales * torch.tensor([gates_of(pattern)])
        looks = [Look(net.conv1.gate, lambda gate, args, out, own=answer: gate.hand_on(own) or own)
                 for net in (model, prepared)]  # fmt: skip
        assert_close(prepared(clips), model(clips))
        for look in looks:
            look.remove()


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_channels_that_nobody_reads_are_not_made(monkeypatch):
    # Frames that are rebuilt of more than 3x3 pixels need a call of their own.
    model, prepared, x = made(c=64, cheap_kernel=5)
    made_of = []
    right = Branch.__call__
    monkeypatch.setattr(
        Branch,
        "__call__",
        lambda *args, **more: made_of.append(args[0].channels) or right(*args, **more),
    )
    # Half of the channels, of every second frame.
    with forced_gates(model, (0, 0.7, 0, 0.6)), forced_gates(prepared, (0, 0.7, 0, 0.6)):
        assert_close(prepared(x[1:]), model(x[1:]))
    assert made_of == [32, 64, 16]


# Kernels of more than 7 x 7 pixels are left to torch.
@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("settings", [dict(bias=True), dict(end="excite"), dict(cheap_kernel=9)])
@torch.no_grad()
def test_so_it_has_by_all_that_can_compute_it(settings):
    model, prepared, x = made(**settings)
    for pattern in patterns(model.conv1):
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))
    assert prepared(x[:0]).shape == (0, 16, 5, 6, 7)


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("end", ["swish", "excite"])
@torch.no_grad()
def test_samples_that_choose_differently_are_answered_each_for_itself(end):
    model, prepared, x = made(end=end)
    with record_cost(model) as record:
        expected = model(x)
    _, _, gates, _ = record.seen[0]
    assert len(set(map(tuple, (gates > 0).tolist()))) > 1
    assert_close(prepared(x), expected)
    assert_close(prepared(x[1:2]), expected[1:2])


FULL = [0.7, 0.0, 0.6, 0.0]
HALF = [0.0, 0.7, 0.0, 0.6]


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3"])
@pytest.mark.parametrize("answer", [FULL, HALF])
@torch.no_grad()
def test_who_looks_at_a_convolution_sees_what_it_reads_and_answers(name, answer, expanded):
    model, prepared, x = made()
    seen = []
    for one in (model, prepared):
        conv = one.get_submodule(name)
        conv.register_forward_hook(lambda conv, args, out: seen.append((args[0].shape, out.shape)))
    expanded.reset_mock()
    with forced_gates(model, answer), forced_gates(prepared, answer):
        assert_close(prepared(x), model(x))
        with record_cost(model) as plain, record_cost(prepared) as fast:
            assert_close(prepared(x), model(x))
    assert (len(seen), len(set(seen))) == (4, 1)
    assert not expanded.called
    assert plain.per_layer(3)["full"].equal(fast.per_layer(3)["full"])


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize("name", ["conv2", "conv3"])
@torch.no_grad()
def test_a_gate_that_answers_unlike_the_others_is_followed(name):
    model, prepared, x = made()
    everything = torch.tensor([FULL]).repeat(len(x), 1)
    with forced_gates(model, HALF), forced_gates(prepared, HALF):
        for one in (model, prepared):
            gate = one.get_submodule(name).gate
            gate.register_forward_hook(lambda *args: everything)
        assert_close(prepared(x), model(x))


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_static_ones_are_one_call_too(expanded):
    model, _, x = made()
    twin = static_twin(model)
    prepared = prepare_for_inference(twin, x)
    expanded.reset_mock()
    # Other clips than those that it was prepared with, whose pass is recorded.
    assert_close(prepared(x[1:]), twin(x[1:]))
    assert expanded.call_count == 1
    assert prepared(x[:0]).shape == (0, 16, 5, 6, 7)


@torch.no_grad()
def test_the_user_s_default_type_does_not_matter(request):
    model, prepared, x = made()
    request.getfixturevalue("_float64_by_default")
    assert_close(prepared(x), model(x))
    assert_close(prepare_for_inference(model, x)(x), model(x))


@torch.no_grad()
def test_a_clip_that_is_no_batch_is_refused():
    _, prepared, x = made(end="nothing added")
    with pytest.raises(ValueError, match="a prepared convolution takes a batch"):
        prepared(x[0])


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
    monkeypatch.setattr(convolutions, "suits", lambda: suits)
    torch.manual_seed(0)
    model, prepared, x = under_one_gate(Joined(way), torch.randn(2, 4, 3, 4, 5))
    for pattern in patterns(model.conv1):
        with forced_gates(model, gates_of(pattern)), forced_gates(prepared, gates_of(pattern)):
            assert_close(prepared(x), model(x))


class Negating(Bottleneck):
    """Reads negated views, whose memory is that of what they negate."""

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(torch._neg_view(x))).relu()))
        y = torch._neg_view(y)
        y = y * torch.sigmoid(self.fc2(self.fc1(self.pool(y)).relu()))
        return self.norm3(self.conv3(y * torch.sigmoid(y))) + self.shortcut(x)


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_negated_views_are_read_as_what_they_stand_for():
    torch.manual_seed(0)
    model, prepared, x = under_one_gate(Negating(), torch.randn(2, 16, 4, 5, 6))
    for _ in range(2):
        assert_close(prepared(x), model(x))
    twin = static_twin(model)
    assert_close(prepare_for_inference(twin, x)(x), twin(x))


class Adding(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(16, 16, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + torch._neg_view(x)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.no_grad()
def test_a_negated_view_is_added_as_what_it_stands_for(dynamic, precision):
    torch.manual_seed(0)
    model, x = Adding().eval(), as_channels_last(torch.randn(2, 16, 4, 5, 6))
    if dynamic:
        make_dynamic(model, DynamicConfig())
    prepared = prepare_for_inference(model, x, precision=precision)
    for _ in range(2):
        assert (prepared(x) - model(x)).abs().max() < 0.1
