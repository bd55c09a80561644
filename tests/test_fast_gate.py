"""What a gate answers by the kernel, prepared and not, against the gate itself in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.fast.prepared_gate import PreparedGate
from vared_mm.kernels.decide import Deciding
from vared_mm.method import DynamicConfig
from vared_mm.method.errors import DynamicError
from vared_mm.method.gate import BlockGate, Gate

CLIPS_LAST, IMAGES_LAST = torch.channels_last_3d, torch.channels_last

forms = pytest.mark.parametrize(
    "form", [lambda gate: gate, PreparedGate], ids=["as trained", "prepared"]
)


def gate_of(kind=Gate, channels=37, space=3, **settings):
    torch.manual_seed(0)
    gate = kind(channels, 2, DynamicConfig(search_space=space, **settings)).eval()
    nn.init.normal_(gate.weight2)
    nn.init.normal_(gate.beta, std=0.5)
    gate.norm.running_mean.normal_(std=0.1)
    gate.norm.running_var.uniform_(0.01, 0.1)
    nn.init.normal_(gate.norm.weight)
    nn.init.normal_(gate.norm.bias)
    return gate


@pytest.mark.usefixtures("_by")
@forms
@pytest.mark.parametrize(
    ("size", "layout"), [((5, 31, 9), CLIPS_LAST), ((7, 1), IMAGES_LAST), ((2, 31, 9), None)]
)
@pytest.mark.parametrize(
    "settings", [{}, {"pool": "change"}, {"pool": "change", "normalised": True}], ids=str
)
@torch.no_grad()
def test_the_answer_is_the_gates_own_in_float64(form, size, layout, settings):
    gate = gate_of(**settings)
    x = torch.randn(50, 37, *size) + torch.linspace(-1, 1, 50).view(-1, *[1] * (len(size) + 1))
    expected = copy.deepcopy(gate).double()(x.double())
    assert 0.1 < (expected > 0).double().mean() < 0.9
    came = form(gate)(x if layout is None else x.contiguous(memory_format=layout))
    assert torch.equal(came > 0, expected > 0)
    assert (came - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("_by")
@forms
@torch.no_grad()
def test_one_frame_does_not_change(form):
    gate = gate_of(pool="change")
    still = gate_of(pool="change")
    still.weight1.data[:, 37:] = 0
    x = torch.randn(3, 37, 1, 5, 5).contiguous(memory_format=CLIPS_LAST)
    assert torch.equal(form(gate)(x), form(still)(x))


@pytest.mark.usefixtures("_by")
@forms
@torch.no_grad()
def test_where_all_are_closed_the_largest_opens_at_the_floor(form):
    gate = gate_of(space=2)
    nn.init.zeros_(gate.weight2)
    gate.beta.copy_(torch.tensor([-0.5, -0.2, 0.3, -1.0]))
    x = torch.randn(1, 37, 2, 2, 2).contiguous(memory_format=CLIPS_LAST)
    tanh = torch.tensor(0.3).tanh().item()
    assert form(gate)(x)[0].tolist() == pytest.approx([0, gate.floor, tanh, 0])


@pytest.mark.usefixtures("_by")
@forms
@torch.no_grad()
def test_nan_stays_nan(form):
    x = torch.full((1, 37, 2, 2, 2), float("nan")).contiguous(memory_format=CLIPS_LAST)
    assert form(gate_of())(x).isnan().all()


@forms
@torch.no_grad()
def test_maps_of_other_channels_are_refused_and_not_read_beyond_their_end(form):
    x = torch.randn(1, 36, 2, 2, 2).contiguous(memory_format=CLIPS_LAST)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        form(gate_of())(x)


@forms
@torch.no_grad()
def test_followers_read_the_answer_once_each(form):
    gate = gate_of(BlockGate)
    gate.followers = 2
    answer = form(gate)(torch.randn(3, 37, 2, 2, 2))
    assert gate.read() is answer
    assert gate.read() is answer
    with pytest.raises(DynamicError, match="ran before the block's first one"):
        gate.read()


@pytest.fixture
def asked(monkeypatch):
    """How often the kernel was called."""
    calls = []
    plain = Deciding.__call__
    monkeypatch.setattr(Deciding, "__call__", lambda self, x: calls.append(1) or plain(self, x))
    return calls


@pytest.mark.usefixtures("_compiler")
def test_who_counts_or_differentiates_sees_the_kernel_and_torch_answers_for_the_rest(asked):
    gate, x = gate_of(), torch.randn(3, 37, 2, 2, 2)
    gate(x).sum().backward()
    exact = copy.deepcopy(gate).double()
    exact.zero_grad()
    exact(x.double()).sum().backward()
    torch.testing.assert_close(gate.weight1.grad.double(), exact.weight1.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            gate(x)
        assert counter.get_total_flops() == 2 * 3 * gate.macs()
        assert len(asked) == 2
        gate.train()(x)
        gate.eval().double()(x.double())
        gate.float().norm.register_forward_hook(lambda *_: None)
        gate(x)
    assert len(asked) == 2


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_the_kernel_reads_the_parameters_as_they_are_now(asked):
    gate, x = gate_of(), torch.randn(3, 37, 2, 2, 2)
    before = gate(x)
    gate.weight1.data = torch.randn_like(gate.weight1)
    gate.norm.running_var.data.mul_(4)
    expected = copy.deepcopy(gate).double()(x.double())
    came = gate(x)
    assert (came - expected).abs().max() < 1e-5
    assert (before - expected).abs().max() > 0.1
    assert len(asked) == 2


@torch.no_grad()
def test_torch_func_transforms_it():
    gate, x = gate_of(), torch.randn(2, 3, 37, 2, 2, 2)
    expected = torch.stack([copy.deepcopy(gate).double()(one.double()) for one in x])
    assert (torch.func.vmap(gate)(x) - expected).abs().max() < 1e-5
    assert (torch.func.functionalize(gate)(x[0]) - expected[0]).abs().max() < 1e-5


@pytest.mark.parametrize("lacks", ["statistics", "weights"])
@torch.no_grad()
def test_a_normalisation_that_lacks_something_is_left_to_torch(lacks):
    gate, x = gate_of(), torch.randn(3, 37, 2, 2, 2)
    if lacks == "statistics":
        torch.func.replace_all_batch_norm_modules_(gate)
    else:
        gate.norm = nn.BatchNorm1d(16, affine=False).eval()
    expected = copy.deepcopy(gate).double()(x.double())
    assert (gate(x) - expected).abs().max() < 1e-5


@forms
@torch.no_grad()
def test_a_negated_view_is_read_with_its_sign(form):
    # Its memory is that of the imaginary part, which the view negates.
    maps = torch.randn(2, 37, 6, 6, generator=torch.Generator().manual_seed(0))
    view = torch.complex(maps, maps).conj().imag
    gate = gate_of()
    assert view.is_neg()
    torch.testing.assert_close(form(gate)(view), form(gate)(-maps))
    view = torch._neg_view(maps)
    torch.testing.assert_close(form(gate)(view), form(gate)(-maps))
