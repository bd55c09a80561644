"""The dynamic convolution computes its equations, in all three forms, for every choice."""

import copy
import io
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from convolutions import CASES, expected_output, gates_of, make_case, patterns
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.method import (
    DynamicConfig,
    UnsupportedConvError,
    VaRedConv2d,
    VaRedConv3d,
)
from vared_mm.method.errors import DynamicError
from vared_mm.method.observe import forced_gates

cases = pytest.mark.parametrize("name", CASES)


@cases
def test_the_three_forms_follow_the_equations_for_every_pattern_of_open_gates(name):
    dynamic, plain, x = make_case(name, samples=2)
    for pattern in patterns(dynamic):
        gates = gates_of(pattern)
        expected = expected_output(dynamic, plain, x, gates)
        with forced_gates(dynamic, gates):
            trained = dynamic.train()(x)
            with torch.no_grad():
                evaluated = dynamic.eval()(x)
            evaluated_with_grad = dynamic(x)
            masked = dynamic._forward_masked(x, dynamic.gate(x))
        assert (masked - expected).abs().max() < 1e-10, pattern
        assert (trained - expected).abs().max() < 1e-10, pattern
        assert (evaluated - expected).abs().max() < 1e-10, pattern
        assert (evaluated_with_grad - expected).abs().max() < 1e-10, pattern


@cases
def test_the_first_path_of_each_axis_at_one_is_the_plain_convolution_exactly(name):
    dynamic, plain, x = make_case(name)
    one = [float(i % dynamic.dynamic.search_space == 0) for i in range(len(patterns(dynamic)[0]))]
    for mode in (True, False):
        with forced_gates(dynamic, one):
            assert torch.equal(dynamic.train(mode)(x), plain(x))


@pytest.mark.parametrize("name", ["3x3x3", "2-D", "odd everything, space 3"])
def test_all_gates_open_at_one_scale_the_computed_maps_by_the_number_of_paths(name):
    dynamic, plain, x = make_case(name)
    space = dynamic.dynamic.search_space
    with forced_gates(dynamic, [1.0] * (2 * space)):
        out = dynamic(x)
    k = dynamic.widths[-1]
    scale = space ** len(dynamic.axes)
    # Channel 0 of frame 0 is computed on every path and rebuilt on none.
    first, expected = out[:, :k], scale * plain(x)[:, :k]
    if len(dynamic.axes) == 2:
        first, expected = first[:, :, 0], expected[:, :, 0]
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-12)


@cases
def test_a_sample_s_result_does_not_depend_on_its_batch(name):
    dynamic, _, x = make_case(name, samples=8)
    dynamic.eval()
    with torch.no_grad():
        together = dynamic(x)
        alone = torch.cat([dynamic(sample[None]) for sample in x])
        opened = (dynamic.gate(x) > 0).unique(dim=0)
    assert len(opened) > 1, "the batch should hold different choices"
    assert (together - alone).abs().max() < 1e-10


@cases
def test_own_gates_give_the_same_in_training_and_evaluation_form(name):
    dynamic, plain, x = make_case(name)
    dynamic.eval()
    with torch.no_grad():
        gates = dynamic.gate(x)
        rows = [expected_output(dynamic, plain, x[i : i + 1], gates[i].tolist()) for i in range(3)]
        assert (dynamic(x) - torch.cat(rows)).abs().max() < 1e-10
        assert (dynamic._forward_all(x, gates) - torch.cat(rows)).abs().max() < 1e-10


@cases
def test_a_plain_checkpoint_loads_and_only_gate_and_cheap_keys_are_new(name):
    dynamic, plain, _ = make_case(name)
    missing, unexpected = dynamic.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    assert {key.split(".")[0] for key in missing} == {"gate", "cheap"}
    assert dynamic.weight is plain.weight
    assert dynamic.bias is plain.bias


@cases
def test_the_loss_reaches_weights_gates_and_every_cheap_operation(name):
    dynamic, _, x = make_case(name, samples=4)
    x.requires_grad_()
    dynamic.train()(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for key, parameter in dynamic.named_parameters():
        assert parameter.grad is not None, key
        if parameter.numel() and not (key.startswith("cheap.time") and x.shape[2] == 1):
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["3x3x3", "odd everything, space 3", "2-D", "depthwise of X3D"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_agree_with_finite_differences(name, training):
    dynamic, _, x = make_case(name, samples=2)
    # All gates clearly open: the leak is a gradient that finite differences rightly do not see.
    nn.init.zeros_(dynamic.gate.weight2)
    nn.init.constant_(dynamic.gate.beta, 0.5)
    dynamic.train(training)
    names = [key for key, _ in dynamic.named_parameters()]

    def run(x, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(dynamic, state, (x,))

    inputs = [x, *(p.detach() for p in dynamic.parameters())]
    inputs = [t.clone().requires_grad_(t.is_floating_point()) for t in inputs]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_a_closed_path_gets_a_gradient_by_which_its_gate_can_open():
    dynamic, _, x = make_case("3x3x3")
    nn.init.zeros_(dynamic.gate.weight2)
    with torch.no_grad():
        dynamic.gate.beta.copy_(torch.tensor([0.5, -0.5, 0.5, -0.5]))
    dynamic.train()(x).square().sum().backward()
    assert (dynamic.gate.beta.grad.abs() > 0).all()


@cases
def test_copies_pickles_and_state_dicts_compute_the_same(name):
    dynamic, _, x = make_case(name)
    dynamic.eval()
    fresh, _, _ = make_case(name)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    buffer = io.BytesIO()
    torch.save(dynamic.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (copy.deepcopy(dynamic), pickle.loads(pickle.dumps(dynamic)), fresh.eval()):
        assert torch.equal(other(x), dynamic(x))
        assert other.weight is not dynamic.weight


@cases
def test_bf16_autocast_trains_and_evaluates_near_float32(name):
    dynamic, _, x = make_case(name, dtype=torch.float32)
    expected = dynamic.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = dynamic(x)
        dynamic.train()(x).float().square().mean().backward()
    assert out.dtype == torch.bfloat16
    # bf16 keeps 8 bits; a few dozen products and up to four paths add up.
    assert (out.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_channels_last_stays_channels_last_in_both_forms():
    # float32, as torch's own float64 convolutions leave the layout.
    dynamic, plain, x = make_case("3x3x3", dtype=torch.float32)
    x = x.to(memory_format=torch.channels_last_3d)
    for pattern in patterns(dynamic):
        gates = gates_of(pattern)
        expected = expected_output(dynamic, plain, x, gates)
        for mode in (True, False):
            with forced_gates(dynamic, gates):
                out = dynamic.train(mode)(x)
            assert (out - expected).abs().max() < 1e-5
            assert out.is_contiguous(memory_format=torch.channels_last_3d), (pattern, mode)


def test_one_sample_trains_by_the_running_statistics():
    dynamic, _, x = make_case("3x3x3", samples=1)
    assert torch.isfinite(dynamic.train()(x)).all()


def test_an_empty_batch_gives_an_empty_result_of_the_right_size():
    for mode in (True, False):
        dynamic, plain, x = make_case("strides in time and space")
        assert dynamic.train(mode)(x[:0]).shape == plain(x[:0]).shape == (0, 6, 5, 3, 5)


def test_nan_input_is_named_with_its_sample_in_evaluation():
    dynamic, _, x = make_case("3x3x3")
    x[1, 0, 0, 0, 0] = torch.nan
    with pytest.raises(DynamicError, match="NaN for sample 1 of 3"):
        dynamic.eval()(x)


def test_nan_input_stays_nan_in_training_as_in_a_plain_convolution():
    dynamic, _, x = make_case("3x3x3")
    x[1, 0, 0, 0, 0] = torch.nan
    assert dynamic.train()(x).isnan().any()


def test_what_is_no_batch_or_of_other_channels_is_refused():
    dynamic, _, x = make_case("3x3x3")
    c, kind = x.shape[1], type(dynamic).__name__
    for other in (x[0], x[:, 1:], torch.cat([x, x], 1)):
        told = re.escape(f"{kind} takes a batch (N, {c}, T, H, W); came {tuple(other.shape)}")
        with pytest.raises(DynamicError, match=told):
            dynamic(other)


class Elsewhere(nn.Conv3d):
    def forward(self, x):
        return super().forward(x) + 1


class MmcvConv3d(nn.Conv3d):
    """As mmcv's wrapper: another forward, the same function."""

    def forward(self, x):
        return super().forward(x)


MmcvConv3d.__module__ = "mmcv.cnn.bricks.wrappers"


def with_own(name, value):
    conv = nn.Conv2d(4, 4, 3)
    setattr(conv, name, value)
    return conv


REFUSED = {
    "transposed": (
        VaRedConv3d,
        nn.ConvTranspose3d(4, 4, 3),
        {},
        "wanted an nn.Conv2d or nn.Conv3d",
    ),
    "another function": (VaRedConv3d, Elsewhere(4, 4, 3), {}, "something else than Conv3d"),
    "lazy": (VaRedConv3d, nn.LazyConv3d(4, 3), {}, "input channels are not known yet"),
    "too few channels": (VaRedConv2d, nn.Conv2d(4, 3, 3), {"search_space": 3}, "3 output channels"),
    "2-D in time": (VaRedConv2d, nn.Conv2d(4, 4, 3), {"axes": "time"}, "channels alone"),
    "twice": (VaRedConv2d, VaRedConv2d(4, 4, 3), {}, "it already is"),
    "parametrized": (
        VaRedConv2d,
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        {},
        "hooks or parametrizations",
    ),
    "own forward": (
        VaRedConv2d,
        with_own("forward", lambda x: 2 * x),
        {},
        "something else than Conv2d",
    ),
    "own product": (
        VaRedConv2d,
        with_own("_conv_forward", lambda x, weight, bias: 2 * x),
        {},
        "something else than Conv2d",
    ),
    "buffer": (
        VaRedConv2d,
        with_own("mask", nn.Buffer(torch.ones(4))),
        {},
        "holds 'mask' beside its weight and bias",
    ),
    "wrong dimensions": (VaRedConv2d, nn.Conv3d(4, 4, 3), {}, "VaRedConv2d is made from a Conv2d"),
}


HOOKS = {
    "backward": "register_full_backward_hook",
    "before backward": "register_full_backward_pre_hook",
    "before saving": "register_state_dict_pre_hook",
    "before loading": "register_load_state_dict_pre_hook",
    "after loading": "register_load_state_dict_post_hook",
}


@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_a_hook_of_any_kind_is_not_lost(register):
    conv = nn.Conv2d(4, 4, 3)
    handle = getattr(conv, register)(lambda *_: None)
    with pytest.raises(UnsupportedConvError, match="it has hooks"):
        VaRedConv2d.from_conv(conv, DynamicConfig())
    handle.remove()
    VaRedConv2d.from_conv(conv, DynamicConfig())


@pytest.mark.parametrize(("kind", "conv", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_dynamic_is_refused(kind, conv, settings, message):
    with pytest.raises(UnsupportedConvError, match=message):
        kind.from_conv(conv, DynamicConfig(**settings))


def test_mmcv_s_own_conv3d_is_a_plain_one():
    assert isinstance(VaRedConv3d.from_conv(MmcvConv3d(4, 4, 3), DynamicConfig()), nn.Conv3d)


def test_it_is_built_by_the_arguments_of_a_convolution_and_a_mapping():
    conv = VaRedConv3d(4, 8, 3, padding=1, bias=False, dynamic={"search_space": 3})
    assert isinstance(conv, nn.Conv3d)
    assert conv.widths == (8, 4, 2)
    assert "channel+time, search_space=3" in repr(conv)


def test_a_mixed_batch_keeps_channels_last():
    dynamic, _, x = make_case("3x3x3", dtype=torch.float32, samples=8)
    dynamic.eval()
    with torch.no_grad():
        expected = dynamic(x)
        out = dynamic(x.to(memory_format=torch.channels_last_3d))
        assert len((dynamic.gate(x) > 0).unique(dim=0)) > 1
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("channels", "settings", "message"),
    [(4, dict(axes="time"), "channels alone"), (1, {}, "1 output channels cannot be halved")],
)
def test_the_constructor_refuses_what_has_nothing_to_choose(channels, settings, message):
    with pytest.raises(UnsupportedConvError, match=message):
        VaRedConv2d(4, channels, 3, dynamic=settings)


@pytest.mark.parametrize(
    ("settings", "product"),
    [
        (dict(kernel_size=1), True),
        (dict(kernel_size=1, bias=False, padding="same"), True),
        (dict(kernel_size=1, stride=(2, 1, 1)), False),
        (dict(kernel_size=1, padding=1), False),
        (dict(kernel_size=1, groups=2), False),
        (dict(kernel_size=(3, 1, 1)), False),
    ],
    ids=str,
)
def test_in_training_a_pointwise_convolution_of_channels_last_maps_is_a_matrix_product(
    settings, product
):
    conv = VaRedConv3d(4, 6, **settings).double().train()
    x = torch.randn(2, 4, 5, 3, 3, dtype=torch.float64).to(memory_format=torch.channels_last_3d)
    x.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        y = conv._full(x)
    assert (torch.ops.aten.convolution not in counter.get_flop_counts()["Global"]) == product
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    expected = F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding, groups=conv.groups)
    torch.testing.assert_close(y, expected)
    weights, leaves = torch.randn_like(y), [p for p in (x, conv.weight, conv.bias) if p is not None]
    grads = (torch.autograd.grad((out * weights).sum(), leaves) for out in (y, expected))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


ANSWERS = {
    "one row for all": lambda out: out[:1],
    "fewer columns": lambda out: out[:, :3],
    "more rows": lambda out: torch.cat([out, out]),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_another_shape_than_the_gate_s_is_refused(answer, training):
    conv = VaRedConv3d(3, 8, 3, padding=1).train(training)
    conv.gate.register_forward_hook(lambda gate, args, out: answer(out))
    with torch.set_grad_enabled(training), pytest.raises(DynamicError, match=r"wanted \(6, 4\)"):
        conv(torch.randn(6, 3, 4, 5, 5))


def test_an_answer_that_opens_no_path_is_refused():
    conv = VaRedConv3d(3, 8, 3).eval()
    conv.gate.register_forward_hook(lambda gate, args, out: torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    with pytest.raises(DynamicError, match="opens no path of its channel axis"):
        conv(torch.randn(1, 3, 4, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_in_half_precision_the_answer_is_the_one_of_float32_rounded(dtype, training):
    torch.manual_seed(0)
    conv = VaRedConv3d(16, 16, (1, 3, 3), padding=(0, 1, 1)).train(training)
    x = 0.1 * torch.rand(2, 16, 8, 56, 56) + 4
    with torch.set_grad_enabled(training):
        wanted, came = conv(x), copy.deepcopy(conv).to(dtype)(x.to(dtype))
    assert came.dtype == dtype
    torch.testing.assert_close(came.float(), wanted, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("choices", [(0, 1, 0), (0, 0, 1)])
@torch.no_grad()
def test_groups_of_one_channel_are_right_where_the_output_is_one_column_wide(choices):
    torch.manual_seed(0)
    settings = dict(search_space=3)
    conv = VaRedConv2d(3, 9, 3, (1, 2), padding=1, groups=3, dynamic=settings).eval()
    x = torch.randn(8, 3, 6, 1).contiguous(memory_format=torch.channels_last)
    exact = copy.deepcopy(conv).double()
    with forced_gates(nn.ModuleList([conv, exact]), choices):
        assert (conv(x) - exact(x.double())).abs().max() < 1e-5
