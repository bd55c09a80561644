"""Which parameters share a group, and that it changes no number."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import nn

import vared_mm  # noqa: F401  (registers the constructor)
from vared_mm.method import DynamicConfig, make_dynamic

CUSTOM = {"gate.beta": dict(lr_mult=5.0, decay_mult=0.0), "gate.weight2": dict(lr_mult=2.0)}


def model():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(2, 4, 1), nn.BatchNorm3d(4), nn.Sequential(nn.Conv3d(4, 6, 3, padding=1))
    )
    make_dynamic(net, DynamicConfig())
    return net


def wrapper_of(net, constructor, **optimizer):
    settings = dict(type="AdamW", lr=0.1, weight_decay=0.2, **optimizer)
    custom = dict(custom_keys=CUSTOM)
    return build_optim_wrapper(
        net, ConfigDict(constructor=constructor, optimizer=settings, paramwise_cfg=custom)
    )


def test_parameters_of_equal_settings_share_a_group():
    net = model()
    names = {p: name for name, p in net.named_parameters()}
    groups = wrapper_of(net, "MergedGroupsConstructor").optimizer.param_groups
    found = [(g["lr"], g["weight_decay"], {names[p] for p in g["params"]}) for g in groups]
    weights, betas = ({f"{conv}.gate.{p}" for conv in ("0", "2.0")} for p in ("weight2", "beta"))
    others = set(names.values()) - weights - betas
    assert found == [(0.1, 0.2, others), (0.2, 0.2, weights), (0.5, 0.0, betas)]


@pytest.mark.parametrize(("fused", "part"), [(False, 0.0), (True, 1e-5)])
def test_the_steps_are_those_of_a_group_for_each_parameter(fused, part):
    nets = [model(), copy.deepcopy(model())]
    each = wrapper_of(nets[0], "DefaultOptimWrapperConstructor")
    few = wrapper_of(nets[1], "MergedGroupsConstructor", fused=fused)
    for _ in range(3):
        x = torch.randn(4, 2, 4, 5, 5)
        for net, wrapper in zip(nets, (each, few), strict=True):
            wrapper.update_params(net(x).square().mean())
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=part, atol=part)
