"""Channels last changes where numbers lie, and none of them."""

import copy

import pytest
import torch
import toy
from mmengine.runner import Runner

import vared_mm  # noqa: F401
from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.method import VaRedConv2d, VaRedConv3d
from vared_mm.method.equations import LAYOUTS


def test_weights_are_channels_last_with_the_same_values():
    plain, other = toy.ToyRecognizer(dynamic={}).eval(), toy.ToyRecognizer(dynamic={}).eval()
    other.load_state_dict(plain.state_dict())
    channels_last(other)
    x = torch.randn(2, 2, 4, 6, 6)
    with torch.no_grad():
        expected, out = plain.backbone(x), other.backbone(x)
    assert other.backbone[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_a_training_keeps_the_layout_and_checkpoints_load_as_ever(tmp_path):
    hooks = [dict(type="CostHook"), dict(type="ChannelsLastHook")]
    runner = Runner(**toy.runner_settings(tmp_path, dynamic={}, hooks=hooks))
    runner.train()
    weight = runner.model.backbone[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=True)["state_dict"]
    fresh = toy.ToyRecognizer(dynamic={})
    fresh.load_state_dict(saved)
    assert torch.equal(fresh.backbone[1].weight, weight)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    "settings", [dict(kernel_size=1), dict(kernel_size=3, padding=1, groups=4)], ids=str
)
@pytest.mark.parametrize("kind", [VaRedConv2d, VaRedConv3d])
def test_dynamic_convolutions_whose_weights_tell_nothing_turn_their_maps_in_training(
    kind, settings, told
):
    conv = kind(4, 8, **settings).train()
    exact = copy.deepcopy(conv).double()
    if told:
        channels_last(conv)
    x = torch.randn(2, 4, 5, 3, 3)[:, :, 0 if kind is VaRedConv2d else slice(None)]
    x = x.contiguous().requires_grad_()
    y, expected = conv(x), exact(x.double())
    assert y.is_contiguous(memory_format=LAYOUTS[x.ndim]) == told
    assert not conv.eval()(x).is_contiguous(memory_format=LAYOUTS[x.ndim])
    torch.testing.assert_close(y, expected.float(), rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *exact.parameters()])
    came = torch.autograd.grad(y.square().sum(), [x, *conv.parameters()])
    for one, other in zip(came, wanted, strict=True):
        torch.testing.assert_close(one, other.to(one), rtol=1e-3, atol=1e-3)
