"""Which parameters share a group, and that it changes no number."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import vared_mm  # noqa: F401  (registers the constructor)
from vared_mm.engine import tsm_groups
from vared_mm.engine.merged_groups import refuse_other_groups
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


def test_groups_are_dicts_that_torch_compile_can_trace():
    groups = wrapper_of(model(), "MergedGroupsConstructor").optimizer.param_groups
    assert {type(group) for group in groups} == {dict}


@pytest.mark.parametrize(("fused", "part"), [(False, 0.0), (True, 1e-5)])
def test_the_steps_are_those_of_a_group_for_each_parameter(fused, part):
    # In float64, as Adam makes steps of the roundings that a bias before a BatchNorm gets.
    nets = [model().double(), copy.deepcopy(model()).double()]
    each = wrapper_of(nets[0], "DefaultOptimWrapperConstructor")
    few = wrapper_of(nets[1], "MergedGroupsConstructor", fused=fused)
    for _ in range(3):
        x = torch.randn(4, 2, 4, 5, 5, dtype=torch.float64)
        for net, wrapper in zip(nets, (each, few), strict=True):
            wrapper.update_params(net(x).square().mean())
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=part, atol=part)


def test_a_state_of_other_parameters_in_groups_of_the_same_sizes_is_refused():
    def wrapper(part):
        custom = dict(custom_keys={f"gate.{part}": dict(decay_mult=0.0)})
        adam = dict(type="AdamW", lr=0.1, weight_decay=0.2)
        settings = dict(optimizer=adam, paramwise_cfg=custom)
        config = ConfigDict(constructor="MergedGroupsConstructor", **settings)
        return build_optim_wrapper(model(), config)

    state = wrapper("beta").state_dict()
    wrapper("beta").load_state_dict(state)
    with pytest.raises(ValueError, match=r"has 0.gate.weight2 where this one has 0.gate.beta: it"):
        wrapper("weight2").load_state_dict(state)
    # The wrapper of a part has no part in names, as in those of weights.
    wrapped = nn.ModuleDict({"module": nn.Linear(1, 1)}), nn.Linear(1, 1)
    optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in wrapped]
    for optimizer, part in zip(optimizers, wrapped, strict=True):
        refuse_other_groups(OptimWrapper(optimizer), part)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    # One of before has no names.
    wrapper("weight2").load_state_dict({k: v for k, v in state.items() if k != "parameter_names"})


def test_settings_that_are_lists_make_a_group_too():
    net, keys = (
        model(),
        {"gate.beta": dict(betas=[0.5, 0.9]), "gate.weight2": dict(betas=[0.5, 0.9])},
    )
    settings = dict(optimizer=dict(type="AdamW", lr=0.1), paramwise_cfg=dict(custom_keys=keys))
    config = ConfigDict(constructor="MergedGroupsConstructor", **settings)
    groups = build_optim_wrapper(net, config).optimizer.param_groups
    assert [(tuple(g["betas"]), len(g["params"])) for g in groups] == [
        ((0.9, 0.999), 16),
        ((0.5, 0.9), 4),
    ]


@pytest.mark.parametrize("dynamic", [None, dict(search_space=3)])
def test_mmaction2_s_constructor_for_tsm_trains_each_parameter_once(dynamic, monkeypatch):
    init_default_scope("mmaction")
    from mmaction.registry import MODELS

    backbone = dict(type="ResNetTSM", depth=18, pretrained=None)
    if dynamic is not None:
        backbone |= dict(type="VaRedResNetTSM", dynamic=dynamic)
    head = dict(type="TSMHead", num_classes=3, in_channels=512)
    net = MODELS.build(dict(type="Recognizer2D", cls_head=head, backbone=backbone))
    how = dict(
        constructor="TSMOptimWrapperConstructor", paramwise_cfg=dict(fc_lr5=True),
        optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4),
    )  # fmt: skip
    before = list(net.state_dict())
    groups = build_optim_wrapper(net, ConfigDict(how)).optimizer.param_groups
    of = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(of)
    assert set(of) == {id(p) for p in net.parameters()}
    assert list(net.state_dict()) == before
    for name, parameter in net.named_parameters():
        if ".gate." in name or ".cheap." in name:
            free = "beta" in name or "norm" in name
            assert of[id(parameter)]["weight_decay"] == (0 if free else 1e-4)
    # What it passes over is told where there are gates.
    told = []
    monkeypatch.setattr(tsm_groups, "print_log", lambda text, *how: told.append(text))
    how["paramwise_cfg"]["custom_keys"] = {"gate.": dict(lr_mult=20.0)}
    build_optim_wrapper(net, ConfigDict(how))
    assert len(told) == (dynamic is not None)
    assert all("passes over paramwise_cfg.custom_keys, ['gate.']: gates have" in t for t in told)
