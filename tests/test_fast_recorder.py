"""What is written down of a pass is what can be done again; all else is done anew."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from prepared import Scaling, assert_close, assert_close_by_choices, lively
from test_fast_recorded import WAYS, made
from torch import fx, nn

from vared_mm.fast import prepare_for_inference, recorder, steps
from vared_mm.fast.recorded import Recorded
from vared_mm.kernels.squeeze_excite import swish
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.layer import group_by_pattern
from vared_mm.method.observe import forced_gates


class Told(nn.Module):
    """Multiplies by a number that it reads of its maps, in a way of its own."""

    def __init__(self, told):
        super().__init__()
        self.conv, self.told = nn.Conv2d(3, 16, 1), told

    def forward(self, x):
        y = self.conv(x)
        return y * self.told(y)


class Picking(nn.Module):
    """A convolution of as many samples as are picked by their numbers."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 1)

    def forward(self, x):
        return self.conv(rows(self.stem(x))).sum(0)


@torch.no_grad()
def test_as_many_samples_are_computed_as_are_picked():
    torch.manual_seed(0)
    model, x = Picking().eval(), torch.randn(4, 3, 5, 5)
    prepared = prepare_for_inference(model, x, precision="float32")
    for i in (0, 1, -1, 0, 3):
        assert_close(prepared(x + i), model(x + i))


@fx.wrap
def total_of(y):
    return sum(y.flatten().tolist())


def rows(y):
    return y[y.mean((1, 2, 3)) > 0]


TOLD = {
    "item": lambda y: y.mean().item(),
    "a function that tracing does not look into": lambda y: total_of(y) + 1,
    "a new tensor": lambda y: y.new_tensor([y.mean(), 2.0])[0],
    "how many are above zero": lambda y: y.mean() / y[y > 0].shape[0],
    "some of those above zero": lambda y: y[y > 0][1:].mean(),
    "their places": lambda y: torch.nonzero(y > 0)[:, 0].float().mean() + 1,
    "all that there are": lambda y: y.round().unique().shape[0],
    "rows": lambda y: rows(y).sum() * rows(y).shape[0],
    "rows so often": lambda y: y.repeat_interleave((y.mean((1, 2, 3)) > 0).long(), 0).sum(),
    "negated": lambda y: torch.relu(torch._neg_view(y)),
    "conjugated": lambda y: torch.fft.irfft(torch.fft.rfft(y, n=8).conj(), n=8)[..., :5],
    "sparse": lambda y: y.to_sparse().to_dense(),
    "in oneDNN's layout": lambda y: y.to_mkldnn().relu().to_dense(),
}


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
@torch.no_grad()
def test_numbers_that_are_read_are_read_anew(told):
    torch.manual_seed(0)
    model, x = Told(told).eval(), torch.randn(4, 3, 5, 5)
    prepared = prepare_for_inference(model, x, precision="float32")
    for i in (0, 1, -1, 0, 3):
        assert_close(prepared(x + i), model(x + i))


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 1)

    def forward(self, x):
        return F.dropout(self.conv(x), 0.5, True)


@torch.no_grad()
def test_what_is_drawn_is_drawn_anew():
    prepared, x = Dropped().eval(), torch.randn(2, 3, 5, 5)
    call = Recorded(prepared)
    first, second, third = (call(x) for _ in range(3))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


class Reflecting(nn.Module):
    """A dynamic convolution that is not prepared, and asks its gate where no recording sees it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(3, 16, 1)
        self.conv = nn.Conv3d(16, 16, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.conv(self.stem(x))


@torch.no_grad()
def test_gates_that_no_recording_sees_decide_anew():
    torch.manual_seed(0)
    model, x = Reflecting(), torch.randn(1, 3, 4, 5, 5)
    make_dynamic(model, DynamicConfig(targets="conv"))
    lively(model, torch.cat([x, 2 * x, x + 1]))
    assert_close_by_choices(model, prepare_for_inference(model, x, precision="float32"), x)


class Added(nn.Module):
    """A dynamic convolution whose answer is smaller than what is added to it, or less exact."""

    def __init__(self, form):
        super().__init__()
        self.stem, self.conv = nn.Conv3d(3, 16, 1), nn.Conv3d(16, 16, 3, padding=1)
        self.form = form

    def forward(self, x):
        y = self.stem(x)
        if self.form == "a double":
            return (self.conv(y) + y.double()).relu().float()
        return (self.conv(y.mean((2, 3, 4), keepdim=True)) + y).relu()


@pytest.mark.parametrize("form", ["a double", "more pixels"])
@torch.no_grad()
def test_what_no_kernel_can_add_is_added_by_torch_and_gates_decide_anew(form):
    torch.manual_seed(0)
    model, x = Added(form), torch.randn(1, 3, 4, 5, 5)
    make_dynamic(model, DynamicConfig(targets="conv"))
    lively(model, torch.cat([x, 2 * x, x + 1]))
    assert_close_by_choices(model, prepare_for_inference(model, x, precision="float32"), x)


class ConvNorm(nn.Module):
    def __init__(self, channels, conv=None):
        super().__init__()
        self.conv = conv or nn.Conv3d(channels, 16, 3, padding=1)
        self.norm = nn.BatchNorm3d(16)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class InParts(nn.Module):
    """Is not traced as a whole, for it asks for numbers; its parts are."""

    def __init__(self, shared):
        super().__init__()
        self.first = ConvNorm(3)
        self.second = ConvNorm(16)
        self.third = ConvNorm(16, self.second.conv if shared else None)

    def forward(self, x):
        if float(x.sum()) > 1e9:
            x = 2 * x
        return self.third(self.second(self.first(x)))


PARTS = {
    "a gate that parts share": (False, r"(?P<block>)(first|second|third)\.conv", "block"),
    "a convolution that parts share": (True, r"second\.conv", "conv"),
}


@pytest.mark.parametrize(("shared", "targets", "share"), PARTS.values(), ids=PARTS)
@torch.no_grad()
def test_parts_of_a_model_are_repeated_each_for_itself(shared, targets, share):
    torch.manual_seed(0)
    model, x = InParts(shared), torch.randn(1, 3, 4, 5, 5)
    make_dynamic(model, DynamicConfig(targets=targets, share=share))
    lively(model, torch.cat([x, 2 * x, x + 1]))
    assert_close_by_choices(model, prepare_for_inference(model, x, precision="float32"), x)


@torch.no_grad()
def test_an_input_that_is_written_into_is_so_once_also_where_the_choice_is_new():
    torch.manual_seed(0)
    model, x = Scaling(nn.Conv3d(3, 16, 1)), torch.randn(1, 3, 4, 5, 5)
    make_dynamic(model, DynamicConfig(targets="conv"))
    prepared = prepare_for_inference(model.eval(), x.clone(), precision="float32")
    for way in WAYS:
        with forced_gates(model, way), forced_gates(prepared, way):
            assert_close(prepared(x.clone()), model(x.clone()))


def test_memory_that_two_inputs_share_is_not_mixed_up():
    def added(x, y):
        return F.relu(x) + 2 * y

    x = torch.arange(-8.0, 8).view(2, 8)
    call = Recorded(added)
    assert torch.equal(call(x[:1], x[1:]), added(x[:1], x[1:]))
    for a, b in ((x[:1], x[1:]), (x[1:], x[:1]), (x[:1].clone(), x[1:].clone())):
        assert torch.equal(call(a, b), added(a, b))


def test_what_is_made_once_is_not_made_again():
    kept = {}

    def added(x):
        if "one" not in kept:
            with recorder.unrecorded():
                kept["one"] = torch.ones(3)
        return x + kept["one"]

    call = Recorded(added)
    for i in range(3):
        assert torch.equal(call(torch.full((3,), float(i))), torch.full((3,), i + 1.0))
    kept["one"] += 1
    assert torch.equal(call(torch.zeros(3)), torch.full((3,), 2.0))


def test_it_is_off_where_tensors_stand_for_others():
    call = Recorded(Mock(wraps=lambda x: 2 * x))
    call(torch.ones(2))
    assert call.function.call_count == 1
    assert torch.vmap(call)(torch.ones(3, 2)).sum() == 12
    assert call(torch.ones(2, requires_grad=True)).requires_grad
    assert call(torch.ones(2, device="meta")).is_meta
    assert call.function.call_count == 4
    assert call(torch.ones(2)).sum() == 4
    assert call.function.call_count == 4


class Sign:
    """Decides by the sign of a mean."""

    def decide_now(self, x, before=None):
        gates = x.view(1, -1).mean(1, keepdim=True)
        return gates, group_by_pattern(gates.tolist())

    def decide(self, x):
        own = recorder.current()
        return self.decide_now(x) if own is None else own.decided(self, x)


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("signs", [(1, -1, 1, -1), (-1, 1, -1, 1)])
def test_what_one_way_alone_reads_is_there_for_it(signs, asks):
    sign = Sign()

    def either(x):
        doubled = 2 * x
        more = doubled + 1
        _, groups = sign.decide(x)
        return more + doubled if (True,) in groups else more

    call = Recorded(either)
    for factor in signs:
        x = torch.full((recorder.SMALL,), float(factor))
        assert torch.equal(call(x, asks=asks), either(x))
    (path,) = call._first.values()
    assert len(path.after) == 2


def test_parts_of_memory_are_found_in_other_memory():
    x = torch.randn(6, 4, 16)
    for function in (lambda x: swish(x[1:]), lambda x: torch.relu(x[:, 2:]), lambda x: x[1:, 1:]):
        call = Recorded(function)
        for part in (x[:3], x[3:], x[2:5].clone()):
            assert_close(call(part), function(part))


def test_memory_elsewhere_is_made_elsewhere():
    call = Recorded(lambda x: (x + 1, torch.empty(3, device="meta")))
    for _ in range(2):
        assert call(torch.ones(2))[1].is_meta


@torch.no_grad()
def test_an_operator_is_repeated_as_a_whole():
    model, _, _ = made()
    call = Recorded(model.first.gate)
    maps = torch.randn(1, 16, 4, 9, 9)
    call(maps)
    (path,) = call._first.values()
    assert [type(step) for step in path.steps] == [steps.Operate]
    assert torch.equal(call(maps), model.first.gate(maps))
