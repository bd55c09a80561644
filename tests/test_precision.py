"""Networks that are prepared for maps in bfloat16."""

import copy
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import Linear as MmcvLinear
from mmengine.registry import MODELS
from prepared import lively
from test_bfloat16 import HALF
from test_fast_backbones import BACKBONES
from test_fast_convolutions import error
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.fast import precision, prepare_for_inference
from vared_mm.fast.same_answers import tensors_in
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet

pytestmark = pytest.mark.usefixtures("_compiler")


@pytest.mark.usefixtures("_tiles", "_suited")
@pytest.mark.parametrize(
    "name", ["InceptionI3d", "R2Plus1d18", "X3D, one gate per block", "ResNetV1c, images"]
)
@torch.no_grad()
def test_a_backbone_keeps_its_precision_outside(name):
    settings, size, _ = BACKBONES[name]
    torch.manual_seed(0)
    x = torch.stack([scale * torch.randn(size) + scale for scale in (-1.5, 0.5, 1.5)])
    model = lively(MODELS.build(copy.deepcopy(settings)), x)
    prepared = prepare_for_inference(model, x[:1], precision="bfloat16")
    first = next(iter(dynamic_convs(model).values()))
    choices = (0, 0.7, *[0] * (first.dynamic.search_space - 2)) * len(first.axes)
    with (
        record_cost(model) as plain,
        record_cost(prepared) as fast,
        forced_gates(model, choices),
        forced_gates(prepared, choices),
    ):
        expected, came = model(x), prepared(x)
    assert len(fast.seen) == len(plain.seen)
    for a, b in zip(tensors_in(came), tensors_in(expected), strict=True):
        assert a.dtype == torch.float32
        assert error(a, b.double()) < 0.1
    assert all(p.dtype == torch.float32 for p in prepared.parameters())


@torch.no_grad()
def test_auto_is_bfloat16_where_the_processor_computes_in_it(monkeypatch):
    model, x = nn.Sequential(nn.Conv3d(3, 16, 1), nn.ReLU()).eval(), torch.randn(1, 3, 2, 4, 4)
    rounded = prepare_for_inference(model, x, precision="bfloat16")(x)
    exact = prepare_for_inference(model, x, precision="float32")(x)
    assert not torch.equal(rounded, exact)
    for computes, expected in ((True, rounded), (False, exact)):
        monkeypatch.setattr(precision, "computes_in_bfloat16", lambda computes=computes: computes)
        assert torch.equal(prepare_for_inference(model, x)(x), expected)
        assert torch.equal(prepare_for_inference(model, x, precision="float32")(x), exact)
        # A model in another precision keeps it.
        double = prepare_for_inference(model.double(), x.double())(x.double())
        assert double.dtype == torch.float64
        model.float()


def test_other_precisions_are_refused():
    model, x = nn.Sequential(nn.Conv3d(3, 16, 1)).eval(), torch.randn(1, 3, 2, 4, 4)
    with pytest.raises(
        ValueError, match="precision is one of auto, float32, bfloat16; came 'bf16'"
    ):
        prepare_for_inference(model, x, precision="bf16")
    with pytest.raises(
        ValueError, match=r"whose weights are float32 on a CPU; came torch.float64 on cpu"
    ):
        prepare_for_inference(model.double(), x.double(), precision="bfloat16")


class Pooled(nn.Module):
    """What autocast leaves in float32 is added to a convolution; its scores are linear."""

    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Conv3d(3, 16, 1), nn.AvgPool3d(3, 1, 1)
        self.conv, self.head = nn.Conv3d(16, 16, 3, padding=1), nn.Linear(16, 400)

    def forward(self, x):
        y = self.pool(self.stem(x))
        return self.head((self.conv(y) + y).relu().mean((2, 3, 4)))


@torch.no_grad()
def test_what_autocast_leaves_in_float32_is_fused_too_and_scores_are_float32(monkeypatch):
    torch.manual_seed(0)
    model, x = Pooled().eval(), torch.randn(4, 3, 4, 6, 6)
    prepared = prepare_for_inference(model, x, precision="bfloat16")
    run = Mock(wraps=prepared.conv.forward.run)
    monkeypatch.setattr(prepared.conv.forward, "run", run)
    came = prepared.forward.run_as_maps(x)
    assert run.call_count == 1
    assert error(came, model(x).double()) < 3 * HALF
    assert not torch.equal(came, came.bfloat16().float())


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Scoring(nn.Module):
    def __init__(self, score):
        super().__init__()
        self.conv, self.score = nn.Conv3d(3, 16, 1), score
        self.weight = nn.Parameter(torch.randn(400, 16))
        self.linear = MmcvLinear(16, 400)
        self.own = OwnLinear(16, 400)

    def forward(self, x):
        return self.score(self, self.conv(x).relu().mean((2, 3, 4)))


SCORES = {
    "mmcv's": lambda model, y: model.linear(y),
    "derived": lambda model, y: model.own(y),
    "a function": lambda model, y: F.linear(y, model.weight),
    "of angles": lambda model, y: 20 * F.normalize(y) @ F.normalize(model.weight).t(),
    "a method": lambda model, y: y.matmul(model.weight.t()),
    "a sum": lambda model, y: torch.einsum("nc,kc->nk", y, model.weight),
}


@pytest.mark.parametrize("name", SCORES)
@torch.no_grad()
def test_scores_are_float32_however_a_linear_layer_is_written(name):
    torch.manual_seed(0)
    model, x = Scoring(SCORES[name]).eval(), torch.randn(4, 3, 4, 6, 6)
    prepared = prepare_for_inference(model, x, precision="bfloat16")
    for _ in range(2):
        came = prepared(x)
        assert error(came, model(x).double()) < 3 * HALF
        assert not torch.equal(came, came.bfloat16().float())
    if name in ("mmcv's", "derived"):
        assert any(prepared.forward.recorded._first.values()) == (name == "mmcv's")


class Boxed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 1)

    def forward(self, x, boxes):
        return self.conv(x), boxes * 2, boxes.double()


@torch.no_grad()
def test_what_is_no_map_keeps_its_numbers_and_its_type():
    x, boxes = torch.randn(1, 3, 4, 4), torch.tensor([[337.0, 1001.0]])
    prepared = prepare_for_inference(Boxed().eval(), x, boxes, precision="bfloat16")
    _, twice, double = prepared(x, boxes)
    assert twice.tolist() == [[674, 2002]]
    assert double.dtype == torch.float64


class Picky(nn.Module):
    """One of its operations does not know bfloat16."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 1)
        self.register_buffer("one", torch.ones(1))

    def forward(self, x):
        return torch.lerp(self.conv(x), self.one, 0.5)


@torch.no_grad()
def test_where_bfloat16_fails_auto_prepares_in_float32_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda: True)
    model, x = Picky().eval(), torch.randn(1, 3, 4, 4)
    prepared = prepare_for_inference(model, x)
    assert error(prepared(x), model(x).double()) < 1e-6
    assert "prepared in float32, as bfloat16 fails: expected dtype" in caplog.text
    with pytest.raises(RuntimeError, match="expected dtype"):
        prepare_for_inference(model, x, precision="bfloat16")


@pytest.mark.parametrize(
    ("example", "told"),
    [((), "missing 1 required positional"), ((torch.ones(1, 3, 4, 4).long(),), "Input type")],
    ids=["no example", "whole numbers"],
)
@torch.no_grad()
def test_what_is_wrong_in_float32_too_is_not_told_of_bfloat16(example, told, monkeypatch, caplog):
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda: True)
    with pytest.raises((TypeError, RuntimeError), match=told) as raised:
        prepare_for_inference(nn.Conv2d(3, 16, 1).eval(), *example)
    assert not caplog.text
    assert raised.value.__context__ is None


@torch.no_grad()
def test_cgnet_is_held_to_forced_choices():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Conv3d(16, 16, 3, padding=1) for _ in range(4)], nn.BatchNorm3d(16))
    make_cgnet(model, CGNetConfig(targets=r"\d"))
    x = torch.randn(2, 16, 4, 6, 6)
    model.train()(x)
    prepared = prepare_for_inference(model.eval(), x, precision="bfloat16")
    assert prepared(x).dtype == torch.float32
