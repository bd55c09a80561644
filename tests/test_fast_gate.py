"""The folded gate against the gate itself in float64."""

import copy

import pytest
import torch
from torch import nn

from vared_mm.fast.folded_gate import FoldedGate
from vared_mm.method import DynamicConfig
from vared_mm.method.errors import DynamicError
from vared_mm.method.gate import BlockGate, Gate

CLIPS_LAST, IMAGES_LAST = torch.channels_last_3d, torch.channels_last


def gate_of(kind=Gate, channels=37, space=3):
    torch.manual_seed(0)
    gate = kind(channels, 2, DynamicConfig(search_space=space, share="conv")).eval()
    nn.init.normal_(gate.weight2)
    nn.init.normal_(gate.beta, std=0.5)
    gate.norm.running_mean.normal_(std=0.1)
    gate.norm.running_var.uniform_(0.01, 0.1)
    nn.init.normal_(gate.norm.weight)
    nn.init.normal_(gate.norm.bias)
    return gate


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize(
    ("size", "layout"), [((5, 31, 9), CLIPS_LAST), ((7, 1), IMAGES_LAST), ((2, 3, 4), None)]
)
@torch.no_grad()
def test_the_answer_is_the_gates_own_in_float64(size, layout):
    gate = gate_of()
    x = torch.randn(50, 37, *size) + torch.linspace(-1, 1, 50).view(-1, *[1] * (len(size) + 1))
    expected = copy.deepcopy(gate).double()(x.double())
    assert 0.1 < (expected > 0).double().mean() < 0.9
    came = FoldedGate(gate)(x if layout is None else x.contiguous(memory_format=layout))
    assert torch.equal(came > 0, expected > 0)
    assert (came - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("_by")
@torch.no_grad()
def test_where_all_are_closed_the_largest_opens_at_the_floor():
    gate = gate_of(space=2)
    nn.init.zeros_(gate.weight2)
    gate.beta.copy_(torch.tensor([-0.5, -0.2, 0.3, -1.0]))
    x = torch.randn(1, 37, 2, 2, 2).contiguous(memory_format=CLIPS_LAST)
    tanh = torch.tensor(0.3).tanh().item()
    assert FoldedGate(gate)(x)[0].tolist() == pytest.approx([0, gate.floor, tanh, 0])


@pytest.mark.usefixtures("_by")
@torch.no_grad()
def test_nan_stays_nan():
    x = torch.full((1, 37, 2, 2, 2), float("nan")).contiguous(memory_format=CLIPS_LAST)
    assert FoldedGate(gate_of())(x).isnan().all()


@torch.no_grad()
def test_maps_of_other_channels_are_refused_and_not_read_beyond_their_end():
    x = torch.randn(1, 36, 2, 2, 2).contiguous(memory_format=CLIPS_LAST)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        FoldedGate(gate_of())(x)


@torch.no_grad()
def test_followers_read_the_answer_once_each():
    gate = gate_of(BlockGate)
    gate.followers = 2
    answer = FoldedGate(gate)(torch.randn(3, 37, 2, 2, 2))
    assert gate.read() is answer
    assert gate.read() is answer
    with pytest.raises(DynamicError, match="ran before the block's first one"):
        gate.read()
