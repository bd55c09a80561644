"""What a model keeps, looks up and hides stays right in its prepared copy."""

import threading

import pytest
import torch
from torch import nn

from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.same_answers import apart

X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def convs():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())


class Net(nn.Module):
    def __init__(self, rule=lambda self, y, x: y, **kept):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.rule = convs(), rule
        for name, value in kept.items():
            self.register_buffer(name, value)

    def forward(self, x):
        return self.rule(self, self.body(x), x)


LOOKED_UP = {
    "a dict": lambda self, y, x: y * {9: 5.0}.get(x.shape[-1], 1.0),
    "a set": lambda self, y, x: y * 3 if x.shape[-1] in {12} else y,
    "a type": lambda self, y, x: y * 3 if x.dtype in {torch.float64} else y,
}


@pytest.mark.parametrize("rule", LOOKED_UP.values(), ids=LOOKED_UP)
@torch.no_grad()
def test_a_forward_that_looks_its_input_up_is_answered_rightly_for_others(rule):
    model = Net(rule).eval()
    prepared = prepare_for_inference(model, X, precision="float32")
    assert fused(prepared) == {"body.0": "conv + norm + relu"}
    for other in (X, torch.cat([X, X[..., :3]], -1)):
        assert apart(prepared(other), model(other)) < 1e-5
    model.double()
    assert apart(prepare_for_inference(model, X.double())(X.double()), model(X.double())) < 1e-5


def count(self, y, x):
    self.n.add_(1)
    return y * self.n[0]


KEPT = {
    "a number that is none": lambda: dict(n=torch.ones(1), m=torch.full((2,), torch.nan)),
    "a number seen as several": lambda: (
        (n := torch.ones(1)) is not None and dict(n=n, m=n.expand(4))
    ),
}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_counters_beside_whatever_else_is_kept_go_on(kept, mode):
    with mode():
        model = Net(count, **kept()).eval()
        prepared = prepare_for_inference(model, X, precision="float32")
        assert model.n.item() == 1
        for _ in range(3):
            assert apart(prepared(X), model(X)) < 1e-5


@torch.no_grad()
def test_a_set_is_the_same_in_whatever_order_it_is_copied():
    model = Net().eval()
    # Of many, so that places are taken and left.
    model.names = {str(i) for i in range(100)}
    for i in range(90):
        model.names.discard(str(i))
    model.names |= {"one", "another"}
    assert len(fused(prepare_for_inference(model, X))) == 1


@torch.no_grad()
def test_a_model_of_lazy_layers_is_made_by_the_example_and_stays_a_model():
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    prepared = prepare_for_inference(model.eval(), X, precision="float32")
    assert len(fused(prepared)) == 2
    assert apart(prepared(X), model(X)) < 1e-5


@torch.no_grad()
def test_parts_are_prepared_that_others_call_past_the_module_around_them():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.back = Net()
            self.extract = lambda x: self.back.body(x)

        def forward(self, x, **unused):
            return self.back.body(x), x.new_zeros(2).log()

    model = Around().eval()
    prepared = prepare_for_inference(model, X, precision="float32")
    assert len(fused(prepared)) == 1
    assert apart(prepared(X)[0], model(X)[0]) < 1e-5


@torch.no_grad()
def test_a_long_graph_with_a_product_is_prepared_in_bfloat16():
    def rule(self, y, x):
        w = self.w
        for _ in range(30):
            w = (w + w.t()) * 0.5
        for _ in range(600):
            y = y * 1.0
        return y.mean((2, 3)) @ w

    prepared = prepare_for_inference(Net(rule, w=torch.eye(8)).eval(), X, precision="bfloat16")
    assert len(fused(prepared)) == 1


def test_infinite_numbers_are_alike_and_imaginary_parts_are_looked_at():
    one = torch.tensor([1.0, float("inf")])
    assert apart(one, one) == 0
    assert apart(torch.tensor([1 + 1j]), torch.tensor([1 + 5j])) == 0.8
    assert not apart(one, torch.tensor([1.0, -float("inf")])) < 1


@torch.no_grad()
def test_other_threads_call_their_models_while_one_is_prepared():
    model, faults, done = Net().eval(), [], threading.Event()

    def call():
        own = Net().eval()
        while not done.is_set():
            try:
                own(X)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [len(fused(prepare_for_inference(model, X))) for _ in range(5)]
    done.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert found == [1] * 5
