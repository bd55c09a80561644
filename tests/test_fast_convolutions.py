"""The prepared convolution against the equations, with what follows it fused."""

from unittest.mock import Mock

import pytest
import torch
from convolutions import CASES, expected_output, gates_of, make_case, patterns
from torch import nn

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.fused_conv import DynamicConv, StaticConv
from vared_mm.fast.packed_conv import is_packable
from vared_mm.method.observe import forced_gates

PACKABLE = [name for name in CASES if is_packable(make_case(name)[0])]


def norm_of(conv):
    norm = (nn.BatchNorm3d if conv.weight.ndim == 5 else nn.BatchNorm2d)(conv.out_channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm.eval()


def error(came, expected):
    return float((came.double() - expected).abs().max() / expected.abs().max())


def test_every_case_but_those_with_uncommon_padding_can_be_prepared():
    assert set(CASES) - set(PACKABLE) == {"even kernel, same padding", "replicate padding"}


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("name", PACKABLE)
@torch.no_grad()
def test_each_pattern_follows_the_equations_then_norm_addition_and_relu(name):
    dynamic, plain, x = make_case(name)
    norm = norm_of(dynamic).double()
    shape = plain(x).shape
    other = torch.randn(shape, dtype=torch.float64)
    wanted = {}
    for pattern in patterns(dynamic):
        y = expected_output(dynamic, plain, x, gates_of(pattern))
        wanted[pattern] = (norm(y) + other).relu()
    run = DynamicConv(dynamic.float().eval(), Epilogue.of(dynamic, norm, relu=True))
    for pattern, expected in wanted.items():
        with forced_gates(dynamic, gates_of(pattern)):
            assert error(run(x.float(), other.float()), expected) < 1e-5, pattern


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("name", PACKABLE)
@torch.no_grad()
def test_in_a_mixed_batch_each_sample_has_its_own_result(name):
    dynamic, _, x = make_case(name, samples=7)
    norm, other = norm_of(dynamic).double(), None
    expected = norm(dynamic.eval()(x))
    other = torch.randn_like(expected)
    assert len({tuple(row) for row in (dynamic.gate(x) > 0).tolist()}) > 1
    run = DynamicConv(dynamic.float(), Epilogue.of(dynamic, norm, relu=False))
    assert error(run(x.float()), expected) < 1e-5
    assert error(run(x.float(), other.float()), expected + other) < 1e-5


@pytest.mark.parametrize("pattern", [(0, 1, 0, 1), (1, 0, 1, 0), (1, 1, 1, 1)])
@torch.no_grad()
def test_large_maps_are_made_in_pieces_of_the_batch(pattern, monkeypatch):
    dynamic, _, x = make_case("3x3x3", torch.float32, samples=5)
    dynamic.eval()
    # Two samples of 8 channels, 4 frames of 5 x 6 pixels.
    monkeypatch.setattr("vared_mm.fast.branch.PIECE", 2 * 8 * 4 * 5 * 6)
    other = torch.randn(5, 8, 4, 5, 6)
    run = DynamicConv(dynamic, Epilogue.of(dynamic, None, relu=True))
    with forced_gates(dynamic, gates_of(pattern)):
        expected = (dynamic(x).double() + other).relu()
        assert error(run(x, other), expected) < 1e-5


# Two clips: in periods of two frames, which five frames are no multiple of, or of one.
@pytest.mark.parametrize(
    ("frames", "pattern", "pieces"),
    [
        (4, (0, 1, 0, 1), 4),
        (4, (1, 1, 1, 1), 4),
        (4, (1, 1, 1, 0), 3),
        (5, (1, 1, 1, 1), 2),
        (5, (1, 1, 1, 0), 4),
    ],
)
@torch.no_grad()
@pytest.mark.usefixtures("_compiler")
def test_a_large_clip_is_made_in_pieces_of_frames_where_frames_stand_alone(
    frames, pattern, pieces, monkeypatch
):
    dynamic, _, _ = make_case("spatial 1x3x3 of R(2+1)D", torch.float32)
    x, other = torch.randn(2, 3, frames, 5, 5), torch.randn(2, 5, frames, 5, 5)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=True))
    branch = run.branch(tuple(map(bool, pattern)))
    made = Mock(wraps=branch._by_kernel)
    monkeypatch.setattr(branch, "_by_kernel", made)
    # Three frames of 5 channels.
    monkeypatch.setattr("vared_mm.fast.branch.PIECE", 3 * 5 * 5 * 5)
    with forced_gates(dynamic, gates_of(pattern)):
        expected = (dynamic(x).double() + other).relu()
        assert error(run(x, other), expected) < 1e-5
    assert made.call_count == pieces


@torch.no_grad()
def test_an_empty_batch_gives_an_empty_result():
    dynamic, plain, x = make_case("3x3x3", torch.float32)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=True))
    assert run(x[:0]).shape == plain(x[:0]).shape


@pytest.mark.parametrize("name", PACKABLE)
@torch.no_grad()
def test_a_static_convolution_takes_norm_addition_and_relu_over(name):
    _, plain, x = make_case(name)
    norm = norm_of(plain).double()
    expected = norm(plain(x))
    other = torch.randn_like(expected)
    run = StaticConv(plain.float(), Epilogue.of(plain, norm, relu=True))
    assert error(run(x.float()), expected.relu()) < 1e-5
    assert error(run(x.float(), other.float()), (expected + other).relu()) < 1e-5


@torch.no_grad()
def test_what_is_added_may_be_one_number_per_channel():
    dynamic, plain, x = make_case("3x3x3", torch.float32)
    other = torch.randn(1, 8, 1, 1, 1)
    for conv, kind in ((plain, StaticConv), (dynamic.eval(), DynamicConv)):
        run = kind(conv, Epilogue.of(conv, None, relu=False))
        assert error(run(x, other), (conv(x) + other).double()) < 1e-5


@torch.no_grad()
def test_in_bfloat16_it_is_off_by_what_bfloat16_holds():
    dynamic, _, x = make_case("3x3x3", torch.float32)
    dynamic.eval()
    epilogue = Epilogue.of(dynamic, norm_of(dynamic), relu=True)
    with forced_gates(dynamic, (0.0, 0.8, 0.0, 0.6)):
        expected = DynamicConv(dynamic, epilogue)(x)
        came = DynamicConv(dynamic.bfloat16(), epilogue)(x.bfloat16())
    assert came.dtype == torch.bfloat16
    assert 1e-6 < error(came, expected.double()) < 0.05


@torch.no_grad()
def test_weights_are_packed_once_for_a_share():
    dynamic, _, x = make_case("3x3x3", torch.float32)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=False))
    with forced_gates(dynamic, (0.0, 0.8, 0.0, 0.6)):
        run(x)
        packed = run.branch((False, True, False, True)).prefix._packed
        run(x)
    assert run.branch((False, True, False, True)).prefix._packed is packed


@torch.no_grad()
def test_gates_that_are_nan_are_refused():
    dynamic, _, x = make_case("3x3x3", torch.float32)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=True))
    with pytest.raises(ValueError, match="NaN for sample 1 of 3"):
        run(x.index_fill(0, torch.tensor(1), float("nan")))


@torch.no_grad()
def test_patterns_of_one_extent_share_their_packed_weights():
    dynamic, _, _ = make_case("3x3x3", torch.float32)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=False))
    made = [run.branch(tuple(map(bool, pattern))).prefix for pattern in patterns(dynamic)]
    assert len(made) == 9
    assert len(set(map(id, made))) == 4


ANSWERS = {
    "of one sample": (lambda answer: answer[:1], r"answered \(1, 4\) numbers; wanted \(3, 4\)"),
    "of too many": (
        lambda answer: answer.repeat(2, 1),
        r"answered \(6, 4\) numbers; wanted \(3, 4\)",
    ),
    "of one axis": (lambda answer: answer[:, :2], r"answered \(3, 2\) numbers; wanted \(3, 4\)"),
    "of no dimension": (
        lambda answer: answer[..., None],
        r"answered \(3, 4, 1\) numbers; wanted \(3, 4\)",
    ),
}


@pytest.mark.parametrize(("change", "told"), ANSWERS.values(), ids=ANSWERS)
@torch.no_grad()
def test_an_answer_of_a_gate_that_does_not_fit_is_refused(change, told):
    dynamic, _, x = make_case("3x3x3", torch.float32)
    run = DynamicConv(dynamic.eval(), Epilogue.of(dynamic, None, relu=True))
    dynamic.gate.register_forward_hook(lambda *args: change(args[-1]))
    with pytest.raises(ValueError, match=told):
        run(x)
