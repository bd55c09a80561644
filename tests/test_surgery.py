"""Convolutions are exchanged by name, all or none, and checkpoints keep their names."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import toy
from torch import nn

from vared_mm.method import (
    DynamicConfig,
    NoMatchingModuleError,
    UnsupportedConvError,
    VaRedConv2d,
    VaRedConv3d,
    make_dynamic,
)
from vared_mm.method.observe import dynamic_convs, record_cost
from vared_mm.rivals.cgnet import make_cgnet
from vared_mm.rivals.ghost import make_ghost


class Block(nn.Module):
    """A bottleneck as X3D's: pointwise, depthwise, pointwise."""

    def __init__(self, c):
        super().__init__()
        self.conv1 = nn.Conv3d(c, 2 * c, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(2 * c)
        self.conv2 = nn.Conv3d(2 * c, 2 * c, 3, padding=1, groups=2 * c, bias=False)
        self.bn2 = nn.BatchNorm3d(2 * c)
        self.conv3 = nn.Conv3d(2 * c, c, 1, bias=False)

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        return x + self.conv3(self.bn2(self.conv2(y)).relu())


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), Block(8), Block(8))


def test_it_says_what_it_changed_and_changes_nothing_else():
    model = network()
    keys = set(model.state_dict())
    names = make_dynamic(model, DynamicConfig(targets=r"\d\.conv[13]"))
    assert names == ["1.conv1", "1.conv3", "2.conv1", "2.conv3"]
    assert list(dynamic_convs(model)) == names
    new = set(model.state_dict()) - keys
    assert keys <= set(model.state_dict())
    assert {key.split(".")[2] for key in new} == {"gate", "cheap"}


def test_settings_may_be_a_dict_as_in_a_config():
    for make in (make_dynamic, make_cgnet, make_ghost):
        model = nn.Sequential(nn.Conv3d(4, 8, 3), nn.Conv3d(8, 8, 3))
        assert make(model, dict(targets="1")) == ["1"]
        with pytest.raises(ValueError, match="did you mean 'targets'"):
            make(nn.Sequential(nn.Conv3d(4, 8, 3)), dict(target="0"))
    conv = VaRedConv3d.from_conv(nn.Conv3d(4, 8, 3), dict(search_space=3))
    assert conv.dynamic.search_space == 3


def test_a_static_checkpoint_gives_the_static_network_while_all_is_computed():
    static, model = network().eval(), network()
    make_dynamic(model, DynamicConfig(targets=r"\d\.conv\d", gate_bias=(20.0, -1.0)))
    missing, unexpected = model.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all(".gate." in key or ".cheap." in key for key in missing)
    x = torch.randn(2, 3, 4, 6, 6)
    torch.testing.assert_close(model.eval()(x), static(x), rtol=0, atol=1e-6)


def test_no_match_names_candidates_and_leaves_the_model():
    model = network()
    before = repr(model)
    with pytest.raises(NoMatchingModuleError, match=r"none of the 7 convolutions.*'1\.conv1'"):
        make_dynamic(model, DynamicConfig(targets=r"1.convv"))
    assert repr(model) == before


def test_a_model_without_convolutions_says_so():
    with pytest.raises(NoMatchingModuleError, match="Sequential has no Conv2d or Conv3d"):
        make_dynamic(nn.Sequential(nn.Linear(2, 2)), DynamicConfig())


def test_a_bare_convolution_is_pointed_to_from_conv():
    with pytest.raises(NoMatchingModuleError, match=r"use VaRedConv2d\.from_conv"):
        make_dynamic(nn.Conv2d(2, 2, 1), DynamicConfig())


def test_a_network_that_is_wrapped_for_several_processes_is_refused():
    with toy.one_process():
        wrapped = nn.parallel.DistributedDataParallel(network())
        with pytest.raises(UnsupportedConvError, match="change the model first and wrap it then"):
            make_dynamic(wrapped, DynamicConfig())
    assert not dynamic_convs(wrapped)


def test_one_bad_convolution_stops_all_before_anything_changed():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1))
    with pytest.raises(UnsupportedConvError, match="^1: Conv2d cannot be made dynamic: its 1 out"):
        make_dynamic(model, DynamicConfig())
    assert not dynamic_convs(model)


def test_a_convolution_that_stands_twice_stays_one():
    conv = nn.Conv2d(4, 4, 1)
    model = nn.ModuleDict({"a": conv, "b": nn.Sequential(conv)})
    assert make_dynamic(model, DynamicConfig()) == ["a"]
    assert isinstance(model["a"], VaRedConv2d)
    assert model["a"] is model["b"][0]


def block_model():
    model = network()
    targets = r"(?P<block>[12])\.conv[123]"
    make_dynamic(model, DynamicConfig(targets=targets, share="block"))
    return model


def test_a_block_shares_one_gate_which_only_its_first_convolution_stores():
    model = block_model()
    owners = {key.split(".gate.")[0] for key in model.state_dict() if ".gate." in key}
    assert owners == {"1.conv1", "2.conv1"}
    nn.init.normal_(model[1].conv1.gate.weight2, std=3)
    x = torch.randn(6, 3, 4, 6, 6)
    with record_cost(model.eval()) as record:
        model(x)
    shares = {p.name: p.share for p in record.passes}
    assert torch.equal(shares["1.conv1"], shares["1.conv2"])
    assert torch.equal(shares["1.conv1"], shares["1.conv3"])
    assert len(shares["1.conv1"].unique()) > 1


def test_a_copied_block_follows_its_own_gate():
    model = block_model().eval()
    other = copy.deepcopy(model)
    other[1].conv1.gate.beta.data = torch.tensor([-1.0, 0.5, -1.0, 0.5])
    x = torch.randn(2, 3, 4, 6, 6)
    shares = []
    for m in (model, other):
        with record_cost(m) as record:
            m(x)
        shares.append([p.share[0].item() for p in record.passes])
    assert shares == [[1.0] * 6, [0.25] * 3 + [1.0] * 3]
    assert other[1].conv3.gate._leader[0] is other[1].conv1.gate


def test_replicas_of_a_block_as_of_data_parallel_decide_by_themselves():
    model = block_model()
    nn.init.normal_(model[1].conv1.gate.weight2, std=3)
    clips = torch.randn(6, 3, 4, 6, 6).split(3)
    with torch.no_grad():
        expected = [model.eval()(x) for x in clips]

    def replica(module):
        """As `torch.nn.parallel.replicate` makes them, with the parameters of the one device."""
        new = module._replicate_for_data_parallel()
        new._parameters = dict(module._parameters)
        new._modules = {name: replica(child) for name, child in module._modules.items()}
        return new

    with torch.no_grad(), ThreadPoolExecutor(2) as threads:
        came = list(threads.map(lambda x: no_grad_call(replica(model), x), clips))
    for y, wanted in zip(came, expected, strict=True):
        torch.testing.assert_close(y, wanted, rtol=0, atol=0)


def no_grad_call(model, x):
    with torch.no_grad():
        return model(x)


def test_a_compiled_block_decides_as_the_plain_one():
    model, x = block_model().eval(), torch.randn(2, 3, 4, 6, 6)
    nn.init.normal_(model[1].conv1.gate.weight2, std=3)
    compiled = torch.compile(model[:2], backend="eager")
    with torch.no_grad():
        # What is compiled is torch's operations, which round otherwise than the gate's kernel.
        torch.testing.assert_close(compiled(x), model[:2](x))
    torch._dynamo.reset()


def test_gates_of_a_block_train_through_activation_checkpointing():
    def gradients(checkpointed):
        model = block_model()
        x = torch.randn(4, 3, 4, 6, 6, generator=torch.Generator().manual_seed(1))
        y = model[0](x)
        for part in model[1:]:
            if checkpointed:
                y = torch.utils.checkpoint.checkpoint(part, y, use_reentrant=False)
            else:
                y = part(y)
        y.square().mean().backward()
        return {key: p.grad for key, p in model.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    for key, gradient in plain.items():
        torch.testing.assert_close(checkpointed[key], gradient, msg=key)


def test_dimensions_that_differ_cannot_share_a_gate():
    model = nn.Sequential(nn.Conv3d(4, 4, 1), nn.Conv2d(4, 4, 1))
    with pytest.raises(UnsupportedConvError, match=r"1 reduces \('channel',\) and 0"):
        make_dynamic(model, DynamicConfig(targets=r"(?P<block>)\d", share="block"))
    assert not dynamic_convs(model)


def test_frozen_and_evaluating_parts_stay_so():
    model = network().eval()
    model[1].conv1.weight.requires_grad_(False)
    make_dynamic(model, DynamicConfig(targets=r"1\.conv1"))
    assert isinstance(model[1].conv1, VaRedConv3d)
    assert not model[1].conv1.training
    assert not model[1].conv1.gate.training
    assert not model[1].conv1.weight.requires_grad


def test_what_is_in_no_block_keeps_a_gate_of_its_own():
    model = network()
    targets = r"(?P<block>1)\.conv\d|2\.conv\d"
    make_dynamic(model, DynamicConfig(targets=targets, share="block"))
    owners = {key.split(".gate.")[0] for key in model.state_dict() if ".gate." in key}
    assert owners == {"1.conv1", "2.conv1", "2.conv2", "2.conv3"}


def test_exceptions_stay_plain():
    model = network()
    names = make_dynamic(model, DynamicConfig(targets=r"1\.conv\d"), except_for={"1.conv2"})
    assert names == ["1.conv1", "1.conv3"]
    assert type(model[1].conv2) is nn.Conv3d


def test_excluded_convolutions_stay_plain_and_the_next_of_their_block_leads():
    model = network()
    settings = DynamicConfig(
        targets=r"(?P<block>[12])\.conv[123]", share="block", exclude=("1.conv1", "2.conv3")
    )
    assert make_dynamic(model, settings) == ["1.conv2", "1.conv3", "2.conv1", "2.conv2"]
    assert type(model[1].conv1) is type(model[2].conv3) is nn.Conv3d
    owners = {key.split(".gate.")[0] for key in model.state_dict() if ".gate." in key}
    assert owners == {"1.conv2", "2.conv1"}


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["1.conv1", "1.convv2"], r"exclude names '1.convv2', .* 4 .* named like '1\.conv"),
        (["0"], "exclude names '0', which is none of the 4 convolutions that targets="),
        (["1.conv1", "1.conv3", "2.conv1", "2.conv3"], "exclude, what is frozen and what cannot"),
    ],
)
def test_exclusions_that_name_no_target_or_leave_none_say_so(exclude, message):
    model = network()
    before = repr(model)
    with pytest.raises(NoMatchingModuleError, match=message):
        make_dynamic(model, DynamicConfig(targets=r"\d\.conv[13]", exclude=exclude))
    assert repr(model) == before


class Past(nn.Module):
    """Calls its convolutions by what torch does not know of."""

    def __init__(self, held):
        super().__init__()
        self.a, self.b = nn.Conv3d(3, 8, 1), nn.Conv3d(8, 8, 1)
        self.calls = held(self)


@pytest.mark.parametrize(
    "held",
    [
        lambda model: [model.a, model.b],
        lambda model: {"first": (model.a, model.b)},
        lambda model: model.b.forward,
    ],
    ids=["list", "dict", "method"],
)
def test_a_convolution_that_is_called_past_torch_is_no_target(held):
    for make in (make_dynamic, make_cgnet, make_ghost):
        model = nn.Sequential(Past(held))
        before = repr(model)
        with pytest.raises(UnsupportedConvError, match=r"calls of 0 \(Past\) holds a convolution"):
            make(model, dict(targets=r"0\.b") | ({"cheap_kernel": 1} if make is make_ghost else {}))
        assert repr(model) == before
    assert make_dynamic(nn.Sequential(Past(lambda model: [nn.ReLU()])), dict(targets=r"0\.b"))


@pytest.mark.parametrize("make", [make_dynamic, make_cgnet])
def test_what_torch_s_layers_start_by_is_a_start_for_all_that_is_new(make):
    def made(device):
        with torch.device(device):
            model = nn.Sequential(nn.Conv3d(4, 8, 3), nn.Conv2d(4, 8, 3))
        make(model, {})
        return model

    model, reference = made("meta").to_empty(device="cpu"), made("cpu")
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(7)
    for network in (model, reference):
        torch.manual_seed(0)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), rtol=0, atol=0)
    start = {"gate.beta": 0.8, "cheap.time.0": 0.0, "gate.threshold": 1.0}
    for name, value in model.state_dict().items():
        for ending in start.keys() & {name[2:]}:
            assert float(value.flatten()[0]) == pytest.approx(start[ending])
