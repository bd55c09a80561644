"""A training in torch's wrapper for several processes is the one without it."""

import pytest
import torch
import toy
from mmengine.runner import Runner
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from vared_mm.engine.around_forward import unwrapped
from vared_mm.method import VaRedConv3d

EFFICIENCY = dict(type="EfficiencyLossHook", correct="always", ramp=0.0)
# Adam moves what has a gradient of zeros, too.
OPTIMIZERS = [dict(type="SGD", lr=0.05, momentum=0.9), dict(type="AdamW", lr=0.01)]


def trained(folder, hooks, optimizer, **settings):
    settings = toy.runner_settings(
        folder, dict(normalised=True), hooks, 2, optim_wrapper=dict(optimizer=optimizer), **settings
    )
    runner = Runner(**settings)
    # What is taught starts from a network that knows statistics.
    torch.nn.init.ones_(unwrapped(runner.model).backbone[2].running_mean)
    runner.train()
    return runner


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["momentum", "Adam"])
@pytest.mark.parametrize(
    ("hooks", "wrapper"),
    [
        ([EFFICIENCY, dict(type="ChannelsLastHook")], dict()),
        ([EFFICIENCY, dict(type="ChannelsLastHook")], dict(find_unused_parameters=True)),
        ([EFFICIENCY, dict(type="ChannelsLastHook")], dict(static_graph=True)),
        ([dict(type="TeachGatesHook")], dict()),
    ],
    ids=["channels last", "channels last, some unused", "channels last, static", "taught"],
)
def test_a_wrapped_training_steps_as_one_that_is_not(
    tmp_path, monkeypatch, hooks, wrapper, optimizer
):
    monkeypatch.setenv("LOCAL_RANK", "0")
    hooks = [*hooks, dict(type="CostHook")]
    plain = trained(tmp_path / "plain", hooks, optimizer)
    wrapper = dict(type="MMDistributedDataParallel", device_ids=None, **wrapper)
    settings = dict(launcher="pytorch", cfg=dict(model_wrapper_cfg=wrapper))
    with toy.one_process():
        wrapped = trained(tmp_path / "wrapped", hooks, optimizer, **settings)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(wrapped.model.module.state_dict()[name], value)
    weight = wrapped.model.module.backbone[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d) == (len(hooks) == 3)


WRAPS = {
    "FSDP1": lambda net: FullyShardedDataParallel(net, device_id=torch.device("cpu")),
    "FSDP2": lambda net: fully_shard(net, mesh=init_device_mesh("cpu", (1,))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_whose_parameters_are_shared_out_rebuilds_by_them(wrap, training):
    net = torch.nn.Sequential(VaRedConv3d(2, 4, 1)).train(training)
    for phi in net[0].cheap.parameters():
        torch.nn.init.normal_(phi)
    x = torch.randn(2, 2, 4, 3, 3)
    expected = net(x)
    with toy.one_process():
        torch.testing.assert_close(wrap(net)(x), expected)
