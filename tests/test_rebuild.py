"""The operator that rebuilds, and its gradient by hand, against its definition."""

import math
from itertools import product

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.kernels import few_passes
from vared_mm.kernels.few_passes import REBUILD_BACKWARD
from vared_mm.method import VaRedConv3d
from vared_mm.method.equations import Rebuild, open_paths, rebuild_by_definition
from vared_mm.method.errors import DynamicError
from vared_mm.method.rebuild import REBUILD, rebuild

# name: (size of y, S, axes, side of Φ)
CASES = {
    "both axes": ((2, 4, 4, 3, 2), 2, "ct", 3),
    "odd channels, odd frames": ((2, 5, 5, 2, 3), 2, "ct", 3),
    "three choices, frames not divisible": ((2, 7, 6, 2, 2), 3, "ct", 3),
    "four choices": ((1, 11, 9, 2, 2), 4, "ct", 1),
    "fewer frames than choices": ((2, 4, 3, 2, 2), 3, "ct", 1),
    "one frame": ((2, 4, 1, 3, 3), 2, "ct", 3),
    "channels alone": ((2, 5, 3, 2, 2), 3, "c", 3),
    "time alone": ((2, 3, 5, 2, 2), 3, "t", 3),
    "images": ((2, 5, 3, 4), 2, "c", 3),
    "images, four choices": ((2, 9, 3, 3), 4, "c", 5),
}
cases = pytest.mark.parametrize("name", CASES)


def arguments(name, dtype=torch.float64, last=False):
    """y, the gates with a closed one on each axis, and Φ: all leaves."""
    torch.manual_seed(0)
    size, space, axes, side = CASES[name]
    kernel = (1,) * (len(size) - 4) + (side, side)
    channels, one = size[1], torch.float64
    widths = [math.ceil(channels / 2**i) for i in range(1, space)]
    phi = [torch.randn(channels - k, 1, *kernel, dtype=one) for k in widths] * ("c" in axes)
    strides = [2**j for j in range(1, space)]
    phi_time = [torch.randn(r - 1, channels, 1, *kernel, dtype=one) for r in strides]
    phi_time *= "t" in axes
    y = torch.randn(size, dtype=dtype)
    if last:
        y = y.to(memory_format=torch.channels_last_3d if y.ndim == 5 else torch.channels_last)
    gates = [torch.rand(size[0], space, dtype=one) for _ in axes]
    for gate in gates:
        gate[0, 0] = gate[-1, 1] = 0
    tensors = [y, *gates, *phi, *phi_time]
    return [tensor.requires_grad_() for tensor in tensors], (axes, len(phi))


def called(tensors, form):
    """The arguments of `rebuild` with all paths open."""
    axes, count = form
    y, gates, cheap = tensors[0], tensors[1 : 1 + len(axes)], tensors[1 + len(axes) :]
    frames = y.shape[2] if y.ndim == 5 else 1
    gates = torch.cat(gates, 1)
    everything = [True] * gates.shape[1]
    return y, gates, cheap[:count], cheap[count:], everything, y.shape[1], frames


def run(tensors, form):
    return rebuild(Rebuild(*called(tensors, form)))


def patterns(name):
    """Ways to open one path at least of each axis: all of them, or some fifty."""
    _, space, axes, _ = CASES[name]
    ways = [way for way in product((False, True), repeat=space) if any(way)]
    together = [sum(each, ()) for each in product(ways, repeat=len(axes))]
    return together[:: max(1, len(together) // 50)]


def opened(name, pattern):
    """The arguments for what such a pattern computes; the other gates are closed."""
    tensors, form = arguments(name)
    y, gates, phi, phi_time, _, channels, frames = called([t.detach() for t in tensors], form)
    channel, time = open_paths(pattern, channels, phi, phi_time)
    y = y[:, : channel[0].scale] if channel else y
    y = y[:, :, :: time[0].scale] if time else y
    gates = (1 + gates) * torch.tensor(pattern)
    leaves = [t.detach().clone().requires_grad_() for t in (y, gates, *phi, *phi_time)]
    cheap = leaves[2:]
    return leaves, (*leaves[:2], cheap[: len(phi)], cheap[len(phi) :], pattern, channels, frames)


@cases
def test_every_pattern_has_the_sums_and_gradients_of_the_definition(name):
    for pattern in patterns(name):
        leaves, arguments = opened(name, pattern)
        came, expected = rebuild(Rebuild(*arguments)), rebuild_by_definition(*arguments)
        torch.testing.assert_close(came, expected, rtol=1e-12, atol=1e-12)
        weights = torch.randn_like(expected)
        grads = torch.autograd.grad(came, leaves, weights)
        wanted = torch.autograd.grad(
            expected, leaves, weights, allow_unused=True, materialize_grads=True
        )
        for one, other in zip(grads, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@cases
def test_closed_paths_add_nothing_to_what_is_computed_of_all(name):
    for pattern in patterns(name):
        _, (_, gates, *cheap, pattern, channels, frames) = opened(name, pattern)
        tensors, form = arguments(name)
        whole = called([t.detach() for t in tensors], form)[0]
        _, part = opened(name, pattern)
        everything = [True] * len(pattern)
        masked = rebuild_by_definition(whole, gates, *cheap, everything, channels, frames)
        torch.testing.assert_close(rebuild(Rebuild(*part)), masked, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["both axes", "time alone", "images"])
def test_torch_finds_the_operators_as_it_wants_them(name, dtype):
    # With one path closed.
    _, (y, gates, *cheap, pattern, channels, frames) = opened(name, patterns(name)[-2])
    y, gates, *cheap = (
        [v.detach().to(dtype).requires_grad_() for v in one] if isinstance(one, list)
        else one.detach().to(dtype).requires_grad_() for one in (y, gates, *cheap)
    )  # fmt: skip
    called = (y, gates, *cheap, list(pattern), channels, frames)
    good = torch.library.opcheck(REBUILD.overloads[0], called)
    g = torch.randn_like(REBUILD(*called)).detach()
    plain = [[v.detach() for v in one] for one in cheap]
    called = (y.detach(), gates.detach(), *plain, list(pattern), channels, frames)
    for operator, arguments in (REBUILD, called), (REBUILD_BACKWARD, (g, *called)):
        found = torch.library.opcheck(operator.overloads[1], arguments)
        good |= {f"{operator.overloads[1]} {check}": found[check] for check in found}
    assert set(good.values()) == {"SUCCESS"}, good


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_that_lie_otherwise_in_memory_get_their_own_gradient(dtype):
    tensors, form = arguments("both axes")
    y, gates, *rest = called([t.detach().to(dtype) for t in tensors], form)
    expected = gates.clone().requires_grad_()
    came = gates.t().contiguous().t().requires_grad_()
    assert not came.is_contiguous()
    for leaf in (expected, came):
        rebuild(Rebuild(y, leaf, *rest)).square().sum().backward()
    assert torch.equal(came.grad, expected.grad)


@cases
@torch.no_grad()
def test_the_flops_told_are_those_of_torch_s_own_operations(name):
    for pattern in patterns(name)[::3]:
        _, arguments = opened(name, pattern)
        with FlopCounterMode(display=False) as told:
            out = REBUILD(*arguments[:4], list(pattern), *arguments[5:])
        with FlopCounterMode(display=False) as counted:
            few_passes.rebuild_in_few_passes(*arguments)
        assert told.get_total_flops() == counted.get_total_flops(), pattern
        with FlopCounterMode(display=False) as told:
            REBUILD_BACKWARD(out, *arguments[:4], list(pattern), *arguments[5:])
        with FlopCounterMode(display=False) as counted:
            few_passes.backward_in_few_passes(out, *arguments)
        # Where bases are made again, the frames they are made of are counted again.
        assert told.get_total_flops() <= counted.get_total_flops(), pattern


@cases
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_all_gradients_are_those_of_finite_differences_at_closed_gates_too(name, last):
    tensors, form = arguments(name, last=last)
    assert torch.autograd.gradcheck(lambda *t: run(t, form), tensors, fast_mode=True)


@cases
def test_samples_worked_on_one_by_one_give_the_same(name, monkeypatch):
    tensors, form = arguments(name)
    weights = torch.randn_like(tensors[0])
    together = torch.autograd.grad((run(tensors, form) * weights).sum(), tensors)
    monkeypatch.setattr(few_passes, "CACHED_BYTES", 1)
    alone = torch.autograd.grad((run(tensors, form) * weights).sum(), tensors)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@cases
def test_neither_the_maps_nor_the_incoming_gradient_are_written_to(name):
    tensors, form = arguments(name)
    incoming = torch.randn_like(tensors[0])
    before = [tensor.detach().clone() for tensor in (*tensors, incoming)]
    run(tensors, form).backward(incoming)
    assert all(map(torch.equal, before, (*tensors, incoming)))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_layout_is_kept_forward_and_backward(last):
    tensors, form = arguments("both axes", last=last)
    layout = torch.channels_last_3d if last else torch.contiguous_format
    out = run(tensors, form)
    out.square().sum().backward()
    assert out.is_contiguous(memory_format=layout)
    assert tensors[0].grad.is_contiguous(memory_format=layout)


def test_only_the_convolution_s_output_is_kept_for_the_backward_pass():
    tensors, form = arguments("both axes")
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run(tensors, form)
    maps = {data for data, count in kept.items() if count >= tensors[0].numel()}
    assert maps == {tensors[0].untyped_storage().data_ptr()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_get_half_gradients_and_parameters_their_own(dtype):
    exact, form = arguments("odd channels, odd frames")
    half, _ = arguments("odd channels, odd frames", dtype=dtype)
    with torch.no_grad():
        for one, other in zip(exact, half, strict=True):
            one.copy_(other)
    weights = torch.randn_like(exact[0])
    expected = torch.autograd.grad((run(exact, form) * weights).sum(), exact)
    grads = torch.autograd.grad((run(half, form) * weights).sum(), half)
    assert [grad.dtype for grad in grads] == [dtype] + [torch.float64] * (len(half) - 1)
    for grad, wanted in zip(grads, expected, strict=True):
        # A few roundings of at most 2^-9, of sums of a few dozen terms.
        assert (grad - wanted).abs().max() < 0.03 * wanted.abs().max()


@pytest.mark.parametrize("name", ["both axes", "images"])
def test_a_second_derivative_is_that_of_finite_differences(name):
    tensors, form = arguments(name)
    assert torch.autograd.gradgradcheck(lambda *t: run(t, form), tensors, fast_mode=True)


@pytest.mark.parametrize("rows", [1, 3])
def test_gates_of_other_samples_are_refused(rows):
    (y, _, *rest), form = arguments("both axes")
    arguments_ = called([y, *[torch.rand(2, 2)] * 2, *rest[1:]], form)
    with pytest.raises(DynamicError, match=r"2 samples with 4 paths came with gates of"):
        rebuild(Rebuild(y, torch.rand(rows, 4), *arguments_[2:]))


def test_a_checkpointed_layer_has_the_gradients_of_a_plain_one():
    torch.manual_seed(0)
    conv, x = VaRedConv3d(3, 6, 3, padding=1), torch.randn(4, 3, 5, 4, 4)
    expected = torch.autograd.grad(conv(x).square().sum(), conv.parameters())
    again = checkpoint(conv, x, use_reentrant=False).square().sum()
    for one, other in zip(torch.autograd.grad(again, conv.parameters()), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_training_pass_counts_its_convolution_and_every_cheap_operation_by_hand():
    conv, x = VaRedConv3d(4, 8, 3, padding=1), torch.randn(1, 4, 6, 5, 5)
    with FlopCounterMode(display=False) as counter:
        conv.train()(x)
    plain = 8 * 6 * 25 * 4 * 27
    cheap = 4 * 6 * 25 * 9 + 8 * 3 * 25 * 9  # 4 channels in 6 frames, 8 channels in 3
    gate = 4 * 16 + 16 * 4
    assert counter.get_total_flops() / 2 == plain + cheap + gate
