"""What a forward asks of its inputs by `is` and by type, which a trace asks once, is asked in each
call; and graphs are tried beside their modules."""

import enum
from typing import NamedTuple

import pytest
import torch
from prepared import assert_close
from torch import nn

from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.forms import form_of, in_places
from vared_mm.fast.prepare import Traced


class Mode(enum.Enum):
    MAPS = 1
    SCORES = 2


class Pair(NamedTuple):
    maps: torch.Tensor
    mask: torch.Tensor | None = None


class Nested:
    def __init__(self, tensors):
        self.tensors = tensors


def by_switch(self, x, flag):
    return self.body(x).softmax(1) if flag is True else self.body(x)


def by_mode(self, x, mode):
    return self.body(x) if mode is Mode.MAPS else self.body(x).mean((2, 3))


def by_word(self, x, word):
    return self.body(x) if word is Mode.MAPS.name else self.body(x) * 2


def by_key(self, batch):
    y = self.body(batch["maps"])
    return y if batch.get("flip") is None else y.flip(-1)


def masked_by_key(self, batch):
    y, mask = self.body(batch["maps"]), batch.get("mask")
    return y if mask is None else y * mask


def masked_by_place(self, pair):
    y = self.body(pair[0])
    return y if pair[1] is None else y * pair[1]


def masked_by_name(self, pair):
    y = self.body(pair.maps)
    return y if pair.mask is None else y * pair.mask


def masked(self, x, mask):
    y = self.body(x)
    return y if mask is None else y * mask


def by_type(self, x):
    return self.body(x) if isinstance(x, torch.Tensor) else self.body(x["maps"]) * 2


def by_exact_type(self, x):
    return self.body(x) if type(x) is torch.Tensor else self.body(x) * 2


def by_attribute(self, x):
    return self.body(x.tensors if hasattr(x, "tensors") else x)


def by_sameness(self, query, key):
    return self.body(query) if key is query else self.body(query) + self.body(key)


A, B, MASK = *torch.randn(2, 2, 3, 6, 6), torch.rand(1, 1, 6, 6)
# Two calls of each, which are answered in two ways.
WAYS = {
    by_switch: [(A, False), (A, True)],
    by_mode: [(A, Mode.MAPS), (A, Mode.SCORES)],
    by_word: [(A, "MAPS"), (A, "SCORES")],
    by_key: [({"maps": A, "flip": True},), ({"maps": A},)],
    masked_by_key: [({"maps": A, "mask": MASK},), ({"maps": A},)],
    masked_by_place: [((A, MASK),), ([A, None],)],
    masked_by_name: [(Pair(A, MASK),), (Pair(A),)],
    masked: [(A, MASK), (A, None)],
    by_type: [(A,), ({"maps": A},)],
    by_exact_type: [(A,), (nn.Parameter(A, requires_grad=False),)],
    by_attribute: [(A,), (Nested(A),)],
    by_sameness: [(A, A), (A, B)],
}


class Asking(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.way = way

    def forward(self, *inputs):
        raise NotImplementedError


def asking(way):
    torch.manual_seed(0)
    # A trace reads the arguments of the class's forward.
    return type("Asking", (Asking,), {"forward": way})(way).eval()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_whichever_way_the_example_takes_the_other_is_answered_too(way, first):
    model, calls = asking(way), WAYS[way]
    prepared = prepare_for_inference(model, *calls[first], precision="float32")
    # A graph that calls it twice leaves it as it is.
    is_twice = way is by_sameness and first == 1
    assert fused(prepared) == ({} if is_twice else {"body.0": "conv + norm + relu"})
    for call in calls * 2:
        assert_close(prepared(*call), model(*call))


@torch.no_grad()
def test_a_graph_that_cannot_run_is_told_nowhere_but_in_the_log(capfd, caplog, recwarn):
    caplog.set_level("INFO")
    prepare_for_inference(asking(by_attribute), A, precision="float32")
    assert capfd.readouterr() == ("", "")
    assert not recwarn
    assert "Asking is prepared by its parts: AttributeError: 'Tensor' object has" in caplog.text


def test_numbers_may_be_others_and_all_else_may_not():
    x, y = A, B
    assert form_of((x, 2, [0.5])) == form_of((y, 3, [1.5]))
    forms = [
        form_of(inputs)
        for inputs in ((x, 1), (x, 1.0), (x, True), (x, None), (x, x), (x, y), ((x, y),), ([x, y],))
    ]
    assert all(a != b for i, a in enumerate(forms) for b in forms[:i])
    assert form_of((x, object())) is None


def test_arguments_have_their_places_by_name_too():
    names = ["x", "mask"]
    for given, named in (((1, 2), {}), ((1,), {"mask": 2}), ((), {"mask": 2, "x": 1})):
        assert in_places(names, given, named) == (1, 2)
    for given, named in (((1,), {}), ((1,), {"x": 2}), ((1, 2), {"way": 3}), ((1, 2, 3), {})):
        assert in_places(names, given, named) is None


@torch.no_grad()
def test_a_call_by_name_runs_the_graph_as_one_by_place_does():
    model = asking(by_sameness)
    prepared = prepare_for_inference(model, query=A, key=B, precision="float32")
    assert isinstance(prepared.forward, Traced)
    prepared.forward.plain = None
    expected = model(A, B)
    assert_close(prepared(A, B), expected)
    assert_close(prepared(A, key=B), expected)
    # By a kernel that reads memory as it is.
    negated = torch.complex(-A, -A).conj().imag
    assert negated.is_neg()
    assert_close(prepared(key=B, query=negated), expected)


class Sorting(nn.Module):
    """One of two parts answers; of each a trace takes that its input is no tensor."""

    def __init__(self):
        super().__init__()
        self.bright, self.dark = (asking(by_type) for _ in range(2))

    def forward(self, x):
        return self.bright(x) if x.mean() > 0 else self.dark(x)


@torch.no_grad()
def test_a_part_that_the_example_does_not_reach_stays_as_it_is():
    model, x = Sorting().eval(), A.abs()
    prepared = prepare_for_inference(model, x, precision="float32")
    assert fused(prepared) == {"bright.body.0": "conv + norm + relu"}
    for each in (x, -x):
        assert_close(prepared(each), model(each))
