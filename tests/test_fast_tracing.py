"""What a forward does in Python, and a graph would do once or not at all."""

import random

import pytest
import torch
import torch.nn.functional as F
from prepared import assert_close
from torch import fx, nn

from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.tracing import traced


def zeros(self, x):
    out = torch.zeros(1, 8, 6, 6)
    out += self.first(x)
    out += self.second(x)
    return out


def number(self, x):
    mean = torch.tensor(0.0)
    mean += self.first(x).mean()
    return self.second(x) * mean


def place(self, x):
    out = torch.zeros(1, 16, 6, 6)
    out[:, :8] = self.first(x)
    out[:, 8:] = self.second(x)
    return out


def largest(self, x):
    best = torch.full((1, 8, 6, 6), -9.0)
    for conv in (self.first, self.second):
        torch.maximum(best, conv(x), out=best)
    return best


def noted(self, x):
    self.seen = self.first(x)
    return self.second(x) + self.seen.mean()


def listed(self, x):
    self.maps.append(self.first(x))
    return self.second(x)


def kept_deeper(self, x):
    self.stats["of"].setdefault("mean", []).append(self.first(x).mean())
    return self.second(x)


def from_before(self, x):
    y = self.first(x) + self.second(x)
    self.state = y if self.state is None else y + self.state
    return self.state.clone()


class Part(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.way, self.maps, self.stats, self.state = way, [], {"of": {}}, None

    def forward(self, x):
        return self.way(self, x)


WAYS = (zeros, number, place, largest, noted, listed, kept_deeper)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_three_clips_after_each_other_are_answered_as_by_the_model(way):
    torch.manual_seed(0)
    model = Part(way).eval()
    prepared = prepare_for_inference(model, torch.randn(1, 3, 6, 6), precision="float32")
    answers = []
    for x in torch.randn(3, 1, 3, 6, 6):
        answers.append((prepared(x), model(x)))
        # What is kept of a clip is a tensor, and that of the clip.
        assert_close(vars(prepared).get("seen", x), vars(model).get("seen", x))
    # After all, as one must not have the memory of another.
    for came, expected in answers:
        assert_close(came, expected)
    assert all(isinstance(each, torch.Tensor) for each in prepared.maps)


class Recurrent(nn.Module):
    """Frame by frame, as no graph can."""

    def __init__(self):
        super().__init__()
        self.part = Part(from_before)

    def forward(self, x):
        self.part.state = None
        return torch.stack([self.part(frame) for frame in list(x.unbind(2))])


@torch.no_grad()
def test_a_part_that_answers_by_what_came_before_goes_on_to_do_so():
    torch.manual_seed(0)
    model = Recurrent().eval()
    prepared = prepare_for_inference(model, torch.randn(1, 3, 1, 6, 6), precision="float32")
    x = torch.randn(1, 3, 4, 6, 6)
    assert_close(prepared(x), model(x))


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x, mask):
        if isinstance(x, list):
            x = torch.cat(x)
        y = self.second(F.relu(self.first(x)))
        return y if mask is None else y * mask


@pytest.mark.parametrize("first", [0, 1])
@torch.no_grad()
def test_inputs_of_another_kind_than_the_example_s_are_served_too(first):
    torch.manual_seed(0)
    model, x, mask = Masked().eval(), torch.randn(2, 3, 6, 6), torch.rand(2, 1, 4, 4)
    calls = [(x, mask), (x, None), (list(x.split(1)), mask)]
    prepared = prepare_for_inference(model, *calls[first], precision="float32")
    for call in calls * 2:
        assert_close(prepared(*call), model(*call))


class Named(nn.Module):
    """Whose parts have the names of functions."""

    def __init__(self, gate):
        super().__init__()
        self.conv, self.sigmoid = nn.Conv2d(3, 16, 3), gate

    def forward(self, x):
        x = self.conv(x)
        return x * self.sigmoid(x)


@pytest.mark.parametrize("gate", [nn.Hardsigmoid(), nn.Tanh(), nn.Sigmoid(), nn.ReLU()])
@torch.no_grad()
def test_a_part_named_sigmoid_may_be_something_else(gate):
    torch.manual_seed(0)
    model, x = Named(gate).eval(), torch.randn(1, 3, 8, 8)
    prepared = prepare_for_inference(model, x, precision="float32")
    assert_close(prepared(x), model(x))
    assert fused(prepared) == {"conv": "conv"}


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(F.silu(x, inplace=True))


@torch.no_grad()
def test_an_input_that_is_overwritten_is_so_once_in_each_call():
    torch.manual_seed(0)
    model, x = Overwriting().eval(), torch.randn(1, 3, 8, 8)
    prepared = prepare_for_inference(model, x.clone(), precision="float32")
    for _ in range(3):
        ours, theirs = x.clone(), x.clone()
        assert_close(prepared(ours), model(theirs))
        assert_close(ours, F.silu(x))
        assert not any(prepared.forward.recorded._first.values())


class Growing(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        Growing.calls += 1
        return [self.conv(x)] * Growing.calls


def test_another_number_of_answers_is_told():
    with pytest.raises(ValueError, match=r"with \d tensors where the model gives 1"):
        prepare_for_inference(Growing().eval(), torch.randn(1, 3, 8, 8), precision="float32")


def counted(self, x):
    self.step += 1
    return self.first(x) * 2 if self.step % 2 else self.second(x)


def counted_by_a_tensor(self, x):
    self.plain[0].add_(1)
    return self.first(x) * self.plain[0] + self.second(x)


def averaged(self, x):
    self.mean.mul_(0.9).add_(self.first(x).mean())
    return self.second(x) + self.mean


def replaced(self, x):
    y = self.second(x) + self.mean
    self.mean.copy_(self.first(x).mean())
    return y


class Keeping(Part):
    """Writes into a tensor that it keeps."""

    def __init__(self, way):
        super().__init__(way)
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("mean", torch.tensor(1.0))
        self.plain = torch.zeros(1), "no parameter, no buffer"

    def numbers(self):
        return [self.step.item(), self.mean.item(), self.plain[0].item()]


@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("way", [counted, counted_by_a_tensor, averaged, replaced])
def test_what_is_written_into_a_kept_tensor_is_written_in_each_call(way, within):
    torch.manual_seed(0)
    model = Keeping(way).eval()
    with within():
        prepared = prepare_for_inference(model, torch.randn(1, 3, 6, 6), precision="float32")
        assert prepared.numbers() == model.numbers() == [0, 1, 0]
        for x in torch.randn(3, 1, 3, 6, 6):
            assert_close(prepared(x), model(x))
            assert prepared.numbers() == pytest.approx(model.numbers())
    assert model.numbers() != [0, 1, 0]


def by_gradients(self, x):
    return self.first(x) if torch.is_grad_enabled() else self.second(x)


def drawn(self, x):
    return self.first(x) * random.choice(range(10**6))


@torch.no_grad()
def test_whether_gradients_are_on_is_asked_in_each_call():
    model, x = Part(by_gradients).eval(), torch.randn(1, 3, 6, 6)
    prepared = prepare_for_inference(model, x, precision="float32")
    assert_close(prepared(x), model(x))
    with torch.enable_grad():
        assert_close(prepared(x), model(x))


def test_what_is_drawn_in_python_is_no_constant_of_a_graph():
    with pytest.raises(fx.proxy.TraceError, match="does something else"):
        traced(Part(drawn))


def another_name(self, x):
    y = F.relu(self.first(x))
    z = y
    y += self.second(x)
    return z + y


def numbers(self, x):
    height = first = x.shape[2]
    height += 2
    return self.first(x) * first + self.second(x) * height


def summed(self, x):
    y = 0
    y += self.first(x)
    y += self.second(x)
    y -= 0.5
    return y


def after_each_other(self, x):
    y = self.first(x) * 2
    y += self.second(x)
    return y


SUMS = {
    another_name: {"first": "conv + relu", "second": "conv"},
    numbers: {"first": "conv", "second": "conv"},
    # The first one's memory is nobody else's.
    summed: {"first": "conv", "second": "conv + add"},
    after_each_other: {"first": "conv", "second": "conv + add"},
}


@pytest.mark.parametrize(("way", "does"), SUMS.items())
@torch.no_grad()
def test_what_is_written_in_place_is_seen_by_all_its_names(way, does):
    torch.manual_seed(0)
    model = Part(way).eval()
    prepared = prepare_for_inference(model, torch.randn(1, 3, 6, 6), precision="float32")
    assert fused(prepared) == does
    for x in torch.randn(3, 1, 3, 6, 6):
        assert_close(prepared(x), model(x))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        x -= 0.5
        return self.conv(x)


@torch.no_grad()
def test_an_input_that_the_model_changes_is_changed_as_far():
    torch.manual_seed(0)
    model, x = Scaled().eval(), torch.randn(1, 3, 8, 8)
    prepared = prepare_for_inference(model, x.clone(), precision="float32")
    ours, theirs = x.clone(), x.clone()
    for _ in range(3):
        assert_close(prepared(ours), model(theirs))
        assert_close(ours, theirs)
