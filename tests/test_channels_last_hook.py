"""Channels last changes where numbers lie, and none of them."""

import torch
import toy
from mmengine.runner import Runner

import vared_mm  # noqa: F401
from vared_mm.engine.channels_last_hook import channels_last


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
