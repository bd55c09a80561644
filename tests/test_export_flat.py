"""Convolutions without extent in time, or in space, as 2-D ones."""

import pytest
import torch
from torch import nn

from vared_mm.export.flat_conv import FlatConv, flattened, is_flat
from vared_mm.fast.same_answers import apart

FLAT = {
    "in space, strided": nn.Conv3d(4, 6, (1, 3, 3), (2, 2, 1), (0, 1, 1), (1, 1, 2), bias=False),
    "in space, depthwise": nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), groups=4),
    "in time, strided": nn.Conv3d(4, 6, (3, 1, 1), (2, 1, 1), (1, 0, 0)),
    "in time, dilated": nn.Conv3d(4, 5, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)),
}
OTHERS = {
    "of both": nn.Conv3d(4, 6, 3),
    "pointwise": nn.Conv3d(4, 6, 1),
    "in space, padded in time": nn.Conv3d(4, 6, (1, 3, 3), padding=1),
    "in time, padded in space": nn.Conv3d(4, 6, (3, 1, 1), padding=1),
    "in time, strided in space": nn.Conv3d(4, 6, (3, 1, 1), 2),
    "reflected": nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1), padding_mode="reflect"),
    "by name": nn.Conv3d(4, 6, (1, 3, 3), padding="same"),
    "2-D": nn.Conv2d(4, 6, 3),
}


@pytest.mark.parametrize("name", FLAT)
@torch.no_grad()
def test_a_flat_convolution_answers_as_the_3d_one(name):
    torch.manual_seed(0)
    network, x = nn.Sequential(FLAT[name], nn.ReLU()), torch.randn(2, 4, 7, 8, 9)
    flat = flattened(network)
    assert type(flat[0]) is FlatConv
    assert flat[0].flat.weight.ndim == 4
    assert apart(flat(x), network(x)) < 1e-5
    assert type(network[0]) is nn.Conv3d


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_stay(name):
    assert not is_flat(OTHERS[name])
