"""Swish in a prepared model: one pass, where nothing else reads what is between."""

import pytest
import torch
from prepared import assert_close
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.kernels.squeeze_excite import swish


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.Sigmoid()

    def forward(self, x):
        x = self.conv(x)
        x = x * torch.sigmoid(x)
        gate = x.sigmoid()
        x = gate * x + gate
        return torch.sigmoid(2 * x) * x * self.act(x)


@torch.no_grad()
def test_swish_becomes_one_pass_where_nothing_else_reads_its_gate():
    torch.manual_seed(0)
    model, x = Swish().eval(), torch.randn(2, 3, 4, 4)
    prepared = prepare_for_inference(model, x)
    calls = [node.target for node in prepared.forward.graph.graph.nodes]
    assert calls.count(swish) == 1
    assert_close(prepared(x), model(x))


class SwishOf(nn.Module):
    """Of a convolution, which is read once more if it `reads`."""

    def __init__(self, reads):
        super().__init__()
        self.conv, self.reads = nn.Conv2d(3, 16, 1), reads

    def forward(self, x):
        x = self.conv(x)
        y = x * torch.sigmoid(x)
        return y + x if self.reads else y


class Silu(nn.Sequential):
    def forward(self, x):
        return torch.nn.functional.silu(super().forward(x))


@torch.no_grad()
def test_swish_by_its_name_is_one_pass_too():
    torch.manual_seed(0)
    model, x = Silu(nn.Conv2d(3, 16, 1)).eval(), torch.randn(2, 3, 4, 4)
    prepared = prepare_for_inference(model, x)
    assert swish in [node.target for node in prepared.forward.graph.graph.nodes]
    assert_close(prepared(x), model(x))


@pytest.mark.parametrize("reads", [False, True])
@torch.no_grad()
def test_the_swish_of_a_convolution_takes_its_memory_where_nothing_else_reads_it(reads):
    torch.manual_seed(0)
    model, x = SwishOf(reads).eval(), torch.randn(2, 3, 4, 4)
    prepared = prepare_for_inference(model, x)
    nodes = prepared.forward.graph.graph.nodes
    (silu,) = (node for node in nodes if node.target is swish)
    assert silu.kwargs == ({} if reads else {"inplace": True})
    assert_close(prepared(x), model(x))


class OverwrittenSwish(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.conv(x)
        gate = x.sigmoid()
        x.add_(1)
        return x * gate


@torch.no_grad()
def test_a_swish_whose_input_changed_since_is_none():
    torch.manual_seed(0)
    model, x = OverwrittenSwish().eval(), torch.randn(2, 3, 4, 4)
    assert_close(prepare_for_inference(model, x)(x), model(x))
