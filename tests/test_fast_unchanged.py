"""A prepared model follows hooks that come late, and refuses changes that it would not follow."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from vared_mm.fast import prepare_for_inference
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import record_cost


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU())
        self.conv, self.norm, self.relu = nn.Conv3d(16, 16, 1), nn.BatchNorm3d(16), nn.ReLU()

    def forward(self, x):
        x = self.stem(x)
        return self.relu(self.norm(self.conv(x)) + x)


@pytest.fixture
def three():
    """A model, the prepared one and clips."""
    torch.manual_seed(0)
    model = Net()
    make_dynamic(model, DynamicConfig(targets="conv"))
    x = torch.randn(2, 3, 2, 5, 5)
    return model.eval(), prepare_for_inference(model, x), x


CHANGES = {
    "training": lambda net: net.train(),
    "training of a part": lambda net: net.stem.train(),
    "weights": lambda net: net.load_state_dict(net.state_dict()),
    "weights of a part": lambda net: net.norm.load_state_dict(net.norm.state_dict()),
    "weights by mmengine": lambda net: load_state_dict(net, net.state_dict()),
    "half precision": lambda net: net.half(),
    "a part in half precision": lambda net: net.conv.bfloat16(),
    "double precision": lambda net: net.to(torch.float64),
    "another device": lambda net: net.to("meta"),
    "empty on another device": lambda net: net.to_empty(device="meta"),
    "shared memory": lambda net: net.share_memory(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_changes_are_refused_before_anything_is_changed(three, change):
    model, prepared, x = three
    with pytest.raises(RuntimeError, match="the model it was made from"):
        change(prepared)
    assert (prepared(x) - model(x)).abs().max() < 1e-5
    assert not prepared.conv.weight.is_shared()


@torch.no_grad()
def test_what_changes_nothing_is_no_change(three):
    model, prepared, x = three
    same = prepared.eval().float().cpu().to("cpu", torch.float32).train(False)
    assert (same(x) - model(x)).abs().max() < 1e-5


EDITS = {
    "a weight": lambda net: net.conv.weight.mul_(2),
    "a norm's weight": lambda net: nn.init.uniform_(net.norm.weight),
    "a norm's statistics": lambda net: net.norm.reset_running_stats(),
    "a gate's bias": lambda net: net.conv.gate.beta.zero_(),
    "Φ": lambda net: net.conv.cheap.channel[0].zero_(),
    "another parameter": lambda net: setattr(
        net.stem[0], "weight", nn.Parameter(net.stem[0].weight)
    ),
    "another tensor": lambda net: setattr(net.conv.weight, "data", net.conv.weight * 2),
    "pruning": lambda net: prune.l1_unstructured(net.stem[0], "weight", 0.5),
    "the old weight norm": lambda net: weight_norm(net.stem[0]),
    "the new weight norm": lambda net: parametrizations.weight_norm(net.stem[0]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@torch.no_grad()
def test_edits_are_refused_by_the_next_call(three, edit):
    _, prepared, x = three
    edit(prepared)
    with pytest.raises(RuntimeError, match="was changed, which what is packed does not follow"):
        prepared(x)


@pytest.mark.parametrize("name", ["norm", "relu", "conv", "stem", "stem.0", "stem.1", "stem.2"])
@torch.no_grad()
def test_a_hook_that_comes_late_sees_what_it_sees_of_the_model(three, name):
    model, prepared, x = three
    seen = []
    for net in (model, prepared):
        net.get_submodule(name).register_forward_hook(
            lambda module, args, out: seen.append((args[0].clone(), out.clone()))
        )
        net(x)
    for plain, late in zip(*seen, strict=True):
        assert (late - plain).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["norm", "relu", "conv", "stem", "stem.0", "stem.1", "stem.2"])
@torch.no_grad()
def test_a_hook_that_comes_late_may_change_what_is_read(three, name):
    model, prepared, x = three
    for net in (model, prepared):
        net.get_submodule(name).register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    assert (prepared(x) - model(x)).abs().max() < 1e-5


@torch.no_grad()
def test_the_record_of_costs_does_not_slow_the_model_down(three, monkeypatch):
    _, prepared, x = three
    monkeypatch.setattr(prepared.forward, "plain", None)
    with record_cost(prepared) as record:
        prepared(x)
    assert len(record.seen) == 1


class Louder(nn.BatchNorm3d):
    """A norm that does more than its base."""

    def forward(self, x):
        return 3 * super().forward(x)


@torch.no_grad()
def test_a_norm_that_does_more_is_still_called():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 16, 1), Louder(16), nn.Conv3d(16, 4, 1)).eval()
    x = torch.randn(1, 3, 2, 4, 4)
    assert (prepare_for_inference(net, x)(x) - net(x)).abs().max() < 1e-5


@torch.no_grad()
def test_a_gate_that_does_more_is_still_called(three):
    model, _, x = three

    class Closed(type(model.conv.gate)):
        def forward(self, x):
            return super().forward(x) * torch.tensor([0.0, 1, 0, 1])

    model = copy.deepcopy(model)
    model.conv.gate.__class__ = Closed
    prepared = prepare_for_inference(model, x)
    assert (prepared(x) - model(x)).abs().max() < 1e-5


X = torch.randn(1, 3, 2, 5, 5)


class Hooked(Net):
    """Answers with what a hook noted in the same call."""

    def __init__(self, hook):
        super().__init__()
        self.seen = {}
        self.conv.register_forward_hook(hook(self))

    def note(self, module, args, out):
        self.seen["conv"] = out

    def forward(self, x):
        super().forward(x)
        return self.seen["conv"]


@pytest.mark.parametrize("calls", [0, 1])
@torch.no_grad()
def test_a_hook_that_closes_over_the_model_is_refused_before_it_answers_for_the_copy(calls):
    model = Hooked(lambda net: lambda module, args, out: net.note(module, args, out)).eval()

    for _ in range(calls):
        model(X)
    with pytest.raises(ValueError, match="register a method of the model"):
        prepare_for_inference(model, X)


@torch.no_grad()
def test_a_hook_that_is_a_method_is_the_copy_s_own():
    model = Hooked(lambda net: net.note).eval()
    prepared = prepare_for_inference(model, X)
    assert (prepared(2 * X) - model(2 * X)).abs().max() < 1e-5
