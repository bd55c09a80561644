"""Answers that are objects are held to the model's too."""

from dataclasses import dataclass

import pytest
import torch
from prepared import assert_close
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.fast.same_answers import tensors_in


@dataclass(frozen=True)
class Scores:
    of: torch.Tensor


@dataclass(frozen=True, slots=True)
class Answer:
    maps: list
    scores: Scores


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Answering(nn.Module):
    drawn = 0.0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x):
        maps = self.conv(x) * (1 + self.draw())
        return Answer([maps], Scores(maps.mean((2, 3))))

    def draw(self):
        Answering.drawn += self.drawn != 0
        return Answering.drawn


class Holding(Answering):
    def forward(self, x):
        answer = super().forward(x)
        return Plain(answer=answer, of=self)


class Listing(Answering):
    def forward(self, x):
        return super().forward(x).scores.of.tolist()


def test_tensors_are_found_in_containers_and_objects_once():
    x, y, z = torch.zeros(3, 1)
    ring = Plain(x=x, model=nn.Linear(1, 1), kind=Answer)
    ring.ring = {"of": [ring], "y": y}
    assert [t.data_ptr() for t in tensors_in((ring, Answer([z], None)))] == [
        t.data_ptr() for t in (x, y, z)
    ]
    assert not list(tensors_in(("words", 1.0, None)))


@pytest.mark.parametrize("kind", [Answering, Holding])
@torch.no_grad()
def test_an_object_s_tensors_that_differ_are_refused(kind, monkeypatch):
    monkeypatch.setattr(Answering, "drawn", 1.0)
    with pytest.raises(ValueError, match="something else than the model"):
        prepare_for_inference(kind().eval(), torch.randn(1, 3, 6, 6), precision="float32")


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-5), ("bfloat16", 0.02)])
@torch.no_grad()
def test_an_object_s_tensors_stay_in_float32(precision, within):
    torch.manual_seed(0)
    model, x = Answering().eval(), torch.randn(1, 3, 6, 6)
    prepared = prepare_for_inference(model, x, precision=precision)
    came, expected = prepared(x), model(x)
    for a, b in ((came.maps[0], expected.maps[0]), (came.scores.of, expected.scores.of)):
        assert a.dtype == b.dtype == torch.float32
        assert (a - b).abs().max() <= within * b.abs().max()
    assert type(came) is Answer


@torch.no_grad()
def test_an_answer_without_a_tensor_is_told_to_be_unchecked(caplog):
    model, x = Listing().eval(), torch.randn(1, 3, 6, 6)
    prepared = prepare_for_inference(model, x, precision="float32")
    assert "has no tensor" in caplog.text
    assert_close(torch.tensor(prepared(x)), torch.tensor(model(x)))
