"""The training form's kernels, in float32, against sums and gradients in float64."""

import copy

import convolutions
import pytest
import test_rebuild
import torch
from convolutions import make_case
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.engine.channels_last_hook import LAYOUTS, channels_last
from vared_mm.kernels.functions import Function
from vared_mm.method import VaRedConv3d
from vared_mm.method.equations import Rebuild
from vared_mm.method.rebuild import rebuild

pytestmark = pytest.mark.usefixtures("_compiler")

# Also such that fill whole vectors, and every side of Φ.
CASES = test_rebuild.CASES | {
    "vectors of all lengths": ((2, 63, 3, 6, 5), 2, "ct", 3),
    "three choices, wide": ((2, 70, 6, 5, 4), 3, "ct", 5),
    "the largest Φ": ((1, 18, 4, 9, 8), 2, "ct", 7),
}


@pytest.fixture
def runs(monkeypatch):
    """Which of the kernels were called; the gate's apart."""
    called, plain = [], Function.run

    def note(self, *arguments):
        if (name := self.call.__name__) != "decide":
            called.append(name)
        return plain(self, *arguments)

    monkeypatch.setattr(Function, "run", note)
    return called


def last(tensor):
    return tensor.contiguous(memory_format=LAYOUTS[tensor.ndim])


def close(came, expected, part=1e-5):
    """Within a part of the largest number."""
    assert (came - expected).abs().max() <= part * expected.abs().max()


@pytest.mark.parametrize("layout", [last, torch.Tensor.contiguous])
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_give_the_sums_and_gradients_of_float64(name, layout, monkeypatch, runs):
    monkeypatch.setitem(test_rebuild.CASES, name, CASES[name])
    exact, form = test_rebuild.arguments(name)
    single = [t.detach().float() for t in exact]
    single = [t.requires_grad_() for t in (layout(single[0]), *single[1:])]
    weights = torch.randn_like(exact[0])
    expected, came = test_rebuild.run(exact, form), test_rebuild.run(single, form)
    close(came, expected, 1e-6)
    assert came.stride() == layout(came).stride()
    grads = torch.autograd.grad((came * layout(weights.float())).sum(), single)
    wanted = torch.autograd.grad((expected * weights).sum(), exact)
    for grad, one in zip(grads, wanted, strict=True):
        close(grad, one)
    assert runs == ["rebuild", "rebuild_backward"]


@pytest.mark.parametrize("name", convolutions.CASES)
def test_a_layer_trains_as_its_equations_written_out_in_float64(name, runs):
    conv, plain, x = make_case(name, samples=5)
    single = copy.deepcopy(conv).float()
    channels_last(single)
    own = last(x.float()).requires_grad_()
    came = single.train()(own)
    gates = conv.train().gate(x.requires_grad_())
    maps = zip(plain(x), gates, strict=True)
    expected = torch.stack([convolutions._one(conv, y, list(row)) for y, row in maps])
    close(came, expected, 1e-5)
    weights = torch.randn_like(expected)
    grads = torch.autograd.grad((came * weights).sum(), [own, *single.parameters()])
    leaves = [x, *conv.parameters()]
    wanted = torch.autograd.grad((expected * weights).sum(), leaves, materialize_grads=True)
    for grad, one in zip(grads, wanted, strict=True):
        close(grad, one, 1e-4)
    assert runs == ["rebuild", "rebuild_backward"]


def results(threads, name="odd channels, odd frames"):
    exact, form = test_rebuild.arguments(name)
    tensors = [t.detach().float() for t in exact]
    tensors = [t.requires_grad_() for t in (last(tensors[0]), *tensors[1:])]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = test_rebuild.run(tensors, form)
        return [out, *torch.autograd.grad(out.square().sum(), tensors)]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
def test_two_runs_of_the_same_threads_are_equal_bit_by_bit(threads):
    for one, other in zip(results(threads), results(threads), strict=True):
        assert torch.equal(one, other)


def test_more_threads_than_samples_and_frames_give_the_sums_of_one():
    for one, other in zip(results(1), results(7), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_only_the_convolution_s_output_is_kept_for_the_backward_pass():
    conv, x = VaRedConv3d(4, 8, 3, padding=1), last(torch.randn(3, 4, 6, 5, 5))
    channels_last(conv)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        conv.train()(x)
    maps = [count for count in kept.values() if count >= x.numel()]
    assert sorted(maps) == [x.numel(), 2 * x.numel()]  # what it reads, and what it computes


def test_a_counter_of_operations_sees_them(runs):
    conv, x = VaRedConv3d(4, 8, 3, padding=1), last(torch.randn(1, 4, 6, 5, 5))
    channels_last(conv)
    with FlopCounterMode(display=False) as counter:
        conv.train()(x)
    cheap = 4 * 6 * 25 * 9 + 8 * 3 * 25 * 9  # 4 channels in 6 frames, 8 channels in 3
    assert counter.get_total_flops() / 2 == 8 * 6 * 25 * 4 * 27 + cheap + 4 * 16 + 16 * 4
    assert runs == ["rebuild"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_torch(dtype, runs):
    conv, x = VaRedConv3d(2, 4, 3, padding=1), torch.randn(2, 2, 4, 3, 3)
    channels_last(conv.to(dtype))
    conv(last(x.to(dtype))).sum().backward()
    assert "rebuild_backward" not in runs


def test_tensors_without_memory_are_left_to_torch(runs):
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    y, gates = fake.from_tensor(torch.randn(2, 4, 4, 3, 3)), torch.ones(2, 2)
    conv = VaRedConv3d(2, 4, 3)
    gates = torch.cat([gates, gates], 1)
    out = rebuild(Rebuild(y, gates, *conv.cheap_operations(), [True] * 4, 4, 4))
    assert type(out) is type(y)
    assert out.shape == y.shape
    assert not runs
