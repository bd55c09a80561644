"""What is prepared of small networks: what is folded, what is left alone, what is refused."""

import copy
import pickle
import warnings

import pytest
import torch
import toy
from prepared import Scaling, assert_close, lively
from torch import nn
from torch.autograd import forward_ad

from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.fused_conv import DynamicConv
from vared_mm.kernels import convolutions
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import forced_gates


class Awkward(nn.Module):
    """Reads what stands between a convolution and its norm, in one way or another."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        if self.way == "elsewhere":
            y = self.conv(x)
            return self.norm(y).relu() + y
        if self.way == "twice":
            return self.norm(self.conv(self.conv(x)))
        if self.way == "both sides":
            return (self.norm(self.conv(x)) + self.second(x)).relu()
        if self.way == "overwritten":
            x = 3 * x
            y = self.norm(self.conv(x))
            return y + x.mul_(2)
        if self.way == "into the other":
            other = self.second(x)
            other += self.norm(self.conv(x))
            return other
        if self.way == "of a switch":
            x = 3 * x
            y = self.norm(self.conv(x))
            return y + nn.functional.relu(x, True)
        if self.way == "to more pixels":
            return (x + self.norm(self.conv(x.mean((2, 3), keepdim=True)))).relu()
        if self.way == "to another type":
            return self.norm(self.conv(x)) + (x > 0)
        y = self.norm(self.conv(x))
        return y + y


@pytest.mark.parametrize(
    ("way", "does"),
    [
        ("elsewhere", {"conv": "conv"}),
        ("twice", {}),
        ("both sides", {"conv": "conv + norm + add + relu", "second": "conv"}),
        ("overwritten", {"conv": "conv + norm"}),
        ("into the other", {"second": "conv + add", "conv": "conv + norm"}),
        ("to itself", {"conv": "conv + norm"}),
        ("of a switch", {"conv": "conv + norm"}),
        ("to more pixels", {"conv": "conv + norm + add + relu"}),
        ("to another type", {"conv": "conv + norm + add"}),
    ],
)
@torch.no_grad()
def test_nothing_is_folded_that_is_read_elsewhere(way, does):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6)
    model = lively(Awkward(way), x)
    prepared = prepare_for_inference(model, x)
    assert fused(prepared) == does
    assert_close(prepared(x), model(x))


class Branching(nn.Module):
    """Its path depends on numbers, so that no graph can hold it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else self.inner[0](x)


@torch.no_grad()
def test_who_calls_a_convolution_past_the_graph_gets_the_convolution_alone():
    torch.manual_seed(0)
    model = lively(Branching(), torch.rand(4, 3, 4, 4))
    prepared = prepare_for_inference(model, torch.ones(1, 3, 4, 4))
    assert fused(prepared) == {"inner.0": "conv + norm + relu"}
    for x in (torch.ones(1, 3, 4, 4), -torch.ones(1, 3, 4, 4)):
        assert_close(prepared(x), model(x))


@torch.no_grad()
def test_a_recogniser_is_prepared_by_the_call_that_uses_it():
    clips = torch.randn(4, 2, 4, 6, 6)
    model = lively(toy.ToyRecognizer(dynamic=dict(search_space=2)), clips)
    prepared = prepare_for_inference(model, clips, mode="tensor")
    assert fused(prepared) == {
        "backbone.0": "conv",
        "backbone.1": "conv + norm + relu",
        "backbone.4": "conv",
    }
    assert_close(prepared(clips, mode="tensor"), model(clips, mode="tensor"))


def test_training_is_refused():
    model = lively(Branching(), torch.rand(4, 3, 4, 4))
    prepared = prepare_for_inference(model, torch.ones(1, 3, 4, 4))
    assert prepared.eval() is prepared
    with pytest.raises(RuntimeError, match="train the model it was made from"):
        prepared.train()
    model.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        prepare_for_inference(model, torch.ones(1, 3, 4, 4))


class Counting(nn.Module):
    """Answers another number each time, counted where a copy has it too."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        Counting.calls += 1
        return self.conv(x) + Counting.calls * 100


def test_a_copy_that_answers_something_else_is_refused():
    model = Counting().eval()
    with pytest.raises(ValueError, match="something else than the model"):
        prepare_for_inference(model, torch.ones(1, 1, 2, 2))


@torch.no_grad()
def test_what_goes_wrong_for_other_choices_than_the_examples_is_found(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 16, 1), nn.ReLU())
    make_dynamic(model, DynamicConfig(targets="0", gate_bias=(3.0, -3.0)))
    right = DynamicConv.branch
    wrong = {(False, True, True, True): 1.5}

    def branch(run, pattern):
        made = right(run, pattern)
        return lambda *args: made(*args) * wrong.get(pattern, 1)

    monkeypatch.setattr(DynamicConv, "branch", branch)
    with pytest.raises(ValueError, match="with least channels and all frames"):
        prepare_for_inference(model.eval(), torch.randn(1, 3, 4, 5, 5))


@torch.no_grad()
def test_a_model_that_overwrites_its_input_meets_the_same_example_twice():
    model, x = Scaling(nn.Conv2d(1, 1, 1)).eval(), torch.ones(1, 1, 2, 2)
    assert_close(prepare_for_inference(model, x)(torch.ones(1, 1, 2, 2)), model(torch.ones_like(x)))


class Padding(nn.Conv2d):
    def forward(self, x):
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


@torch.no_grad()
def test_a_convolution_that_does_more_than_its_base_stays_as_it_is():
    model, x = nn.Sequential(Padding(3, 4, 2), nn.ReLU()).eval(), torch.randn(2, 3, 5, 5)
    prepared = prepare_for_inference(model, x)
    assert not fused(prepared)
    assert_close(prepared(x), model(x))


@torch.no_grad()
def test_what_hooks_a_convolution_meets_the_convolutions_own_output():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), torch.randn(2, 3, 5, 5)
    model[0].register_forward_hook(lambda module, args, y: y + 0.5)
    prepared = prepare_for_inference(model, x)
    assert fused(prepared) == {"0": "conv"}
    assert_close(prepared(x), model(x))


class Optional(nn.Module):
    def __init__(self, conv=None):
        super().__init__()
        self.conv, self.norm = conv or nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x, identity=None, activate=True):
        y = self.norm(self.conv(x)) + (x if identity is None else identity)
        return y.relu() if activate else y


@torch.no_grad()
def test_an_input_that_may_be_missing_is_served_with_and_without_it():
    x = torch.randn(2, 3, 5, 5)
    model = lively(Optional(), x)
    prepared = prepare_for_inference(model, x)
    assert fused(prepared) == {"conv": "conv + norm + add + relu"}
    for call in ((x,), (x, 2 * x), (x, None, False)):
        assert_close(prepared(*call), model(*call))


class Sharing(nn.Module):
    """Two parts with norms of their own around one convolution; no graph can hold the whole."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 1)
        self.first, self.second = Optional(conv), Optional(conv)

    def forward(self, x):
        return self.first(x) - self.second(x) if x.mean() < 100 else x


@torch.no_grad()
def test_a_convolution_of_two_parts_has_each_parts_norm():
    x = torch.randn(2, 3, 5, 5)
    model = lively(Sharing(), x)
    prepared = prepare_for_inference(model, x)
    assert fused(prepared) == {"first.conv": "conv + norm + add + relu"}
    assert_close(prepared(x), model(x))


class SideBySide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.first(x) + self.second(x)


@torch.no_grad()
def test_a_blocks_gate_is_asked_before_its_followers_read_it():
    x = torch.randn(2, 4, 4, 5, 5)
    model = SideBySide()
    make_dynamic(model, DynamicConfig(targets="(?P<block>)(first|second)", share="block"))
    prepared = prepare_for_inference(lively(model, x), x)
    assert fused(prepared) == {"first": "conv", "second": "conv + add"}
    assert_close(prepared(x), model(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_prepared_model_is_neither_copied_nor_pickled(copied):
    prepared = prepare_for_inference(
        nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), torch.ones(1, 3, 2, 2)
    )
    with pytest.raises(TypeError, match="save the model it was made from"):
        copied(prepared)


def test_no_gradient_passes_unseen():
    x = torch.ones(1, 3, 2, 2)
    prepared = prepare_for_inference(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), x)
    assert not prepared(x).requires_grad
    with pytest.raises(RuntimeError, match="no gradient passes a prepared convolution"):
        prepared(x.requires_grad_())


@pytest.mark.parametrize("shape", [(2, 2, 4, 5, 5), (3, 4, 5, 5)])
@torch.no_grad()
def test_inputs_of_another_kind_are_refused(shape):
    x = torch.randn(2, 3, 4, 5, 5)
    model = nn.Sequential(nn.Conv3d(3, 4, 1), nn.ReLU())
    make_dynamic(model, DynamicConfig(targets="0"))
    prepared = prepare_for_inference(model.eval(), x)
    with pytest.raises(ValueError, match=r"takes a batch \(N, 3, T, H, W\); came"):
        prepared(torch.randn(shape))


def test_where_our_own_convolutions_are_not_the_prepared_network_answers_as_the_model(monkeypatch):
    monkeypatch.setattr(convolutions, "library", lambda *_: None)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(16, 32, 1, bias=False), nn.BatchNorm3d(32), nn.ReLU()).eval()
    make_dynamic(model, DynamicConfig())
    x = torch.randn(2, 16, 4, 5, 6)
    prepared = prepare_for_inference(model, x)
    for choices in ((0.7, 0, 0.7, 0), (0, 0.7, 0.7, 0)):
        with torch.no_grad(), forced_gates(model, choices), forced_gates(prepared, choices):
            assert_close(prepared(x), model(x))


@pytest.mark.parametrize("dynamic", [True, False])
@torch.no_grad()
def test_a_prepared_model_is_no_trace_s_and_runs_within_compiled_code_as_it_is(dynamic):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(16, 32, 1), nn.BatchNorm3d(32), nn.ReLU()).eval()
    if dynamic:
        make_dynamic(model, DynamicConfig())
    x = torch.randn(2, 16, 4, 5, 6)
    prepared = prepare_for_inference(model, x)
    for export in (
        torch.jit.trace,
        lambda net, x: torch.onnx.export(net, (x,), dynamo=False),
        lambda net, x: torch.export.export(net, (x,)),
    ):
        with pytest.raises(RuntimeError, match="a prepared model cannot be traced or exported"):
            export(prepared, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # torch's own of that Python.
        warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
        assert_close(torch.compile(prepared, backend="eager")(2 * x), model(2 * x))


def with_derivatives(model, x):
    with forward_ad.dual_level():
        model(forward_ad.make_dual(x, x))


@pytest.mark.parametrize(
    "transform",
    [
        lambda model, x: torch.func.vmap(model)(x[:, None]),
        lambda model, x: torch.func.functionalize(model)(x),
        lambda model, x: torch.func.jvp(model, (x,), (x,)),
        with_derivatives,
    ],
    ids=["vmap", "functionalize", "jvp", "dual numbers"],
)
@torch.no_grad()
def test_what_no_kernel_knows_is_refused_by_name(transform):
    model, x = nn.Sequential(nn.Conv2d(3, 16, 1)).eval(), torch.randn(2, 3, 4, 5)
    with pytest.raises(RuntimeError, match="pass a prepared model, .* it was made from"):
        transform(prepare_for_inference(model, x), x)


class Asking(nn.Module):
    """Cannot be traced as a whole: its own convolution is not prepared."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 16, 3, padding=1)
        self.body = nn.Sequential(nn.Conv3d(16, 16, 1), nn.ReLU())

    def forward(self, x):
        return self.body(self.conv(x)) if x.mean() < 100 else x


@torch.no_grad()
def test_the_gate_of_a_convolution_that_is_not_prepared_follows_changes():
    torch.manual_seed(0)
    model, x = Asking(), torch.randn(2, 3, 4, 6, 6)
    make_dynamic(model, DynamicConfig(targets="conv"))
    prepared = prepare_for_inference(model.eval(), x)
    before = prepared(x)
    for net in (model, prepared):
        net.conv.gate.beta = nn.Parameter(torch.tensor([-3.0, 3.0, -3.0, 3.0]))
    assert_close(prepared(x), model(x))
    assert (prepared(x) - before).abs().max() > 0.1


class Numbered(nn.Module):
    """A number that is none of the network's is added to a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 16, 1)

    def forward(self, x):
        return (self.conv(x) + x.shape[0]).relu()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv3d(3, 16, 1), nn.LSTM(16, 8, batch_first=True)

    def forward(self, x):
        return self.lstm(self.conv(x).mean((3, 4)).transpose(1, 2))[0]


@pytest.mark.parametrize("kind", [Numbered, Recurrent])
@torch.no_grad()
def test_numbers_that_are_added_and_recurrent_layers_are_prepared(kind):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(2, 3, 4, 5, 5)
    prepared = prepare_for_inference(model, x)
    for clips in (x, x[:1], x, 2 * x):
        assert_close(prepared(clips), model(clips))
