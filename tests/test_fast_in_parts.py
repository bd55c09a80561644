"""Batches that run in parts: the same answers, and observers that see whole batches."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.registry import MODELS
from test_fast_prepare import assert_close, lively
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.fast import in_parts, prepare_for_inference
from vared_mm.fast.forced_shares import choices_of, forced, plan_for
from vared_mm.method import DynamicConfig, VaRedConv2d, make_dynamic
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost

# What a module does with the maps y (N, 4, 8, 8) of its convolution, otherwise for each sample.
TOGETHER = {
    "all samples together": lambda toy, y: y - y.mean(0, keepdim=True),
    "two by two": lambda toy, y: y.view(-1, 2, 4, 8, 8).flip(1).flatten(0, 1),
    "frames of two clips": lambda toy, y: y.reshape(2, -1, 4, 8, 8).roll(1, 1).flatten(0, 1),
    "one answer for all": lambda toy, y: y.mean(),
    "the first one": lambda toy, y: y + y[:1],
    "in rows": lambda toy, y: torch.cat([y, y]),
    "a number for each of eight": lambda toy, y: y * torch.arange(8.0).view(8, 1, 1, 1),
    "statistics of the batch": lambda toy, y: toy.norm(y),
}


class Toy(nn.Module):
    def __init__(self, way="each sample by itself"):
        super().__init__()
        self.way, self.conv, self.pool = way, nn.Conv2d(1, 4, 1), nn.AdaptiveAvgPool2d(1)
        if way == "statistics of the batch":
            self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        y = self.conv(x)
        return TOGETHER[self.way](self, y) if self.way in TOGETHER else (y, {"pool": self.pool(y)})


def allow(monkeypatch, samples):
    """Maps of so many samples of `Toy`, 4 · 8 · 8 floats each."""
    monkeypatch.setattr(in_parts, "LARGEST", samples * 4 * 8 * 8 * 4)


def samples_at_once(prepared, run):
    """How many samples came into `prepared.conv` at each of its calls, seen without a hook."""
    forward, seen = prepared.conv.forward, []

    def counted(x, *args, **kwargs):
        seen.append(len(x))
        return forward(x, *args, **kwargs)

    prepared.conv.forward = counted
    try:
        return run(), seen
    finally:
        prepared.conv.forward = forward


@torch.no_grad()
def test_maps_stay_below_the_largest(monkeypatch):
    allow(monkeypatch, 3)
    torch.manual_seed(0)
    model, x = Toy().eval(), torch.randn(8, 1, 8, 8)
    prepared = prepare_for_inference(model, x[:1])
    (came, extra), seen = samples_at_once(prepared, lambda: prepared(x))
    assert seen == [3, 3, 2]
    expected, pooled = model(x)
    assert_close((came, extra["pool"]), (expected, pooled["pool"]))
    assert came.is_contiguous(memory_format=torch.channels_last)
    # A quarter of the pixels: four times the samples.
    small = x[..., ::2, ::2]
    assert samples_at_once(prepared, lambda: prepared(small))[1] == [8]


@pytest.mark.parametrize("way", TOGETHER)
@torch.no_grad()
def test_a_module_that_reckons_with_other_samples_runs_at_once(monkeypatch, way):
    # As many as most of the ways would bear.
    allow(monkeypatch, 2)
    torch.manual_seed(0)
    model, x = Toy(way).eval(), torch.randn(8, 1, 8, 8)
    prepared = prepare_for_inference(model, x)
    for _ in range(2):
        assert_close(prepared(x), model(x))
    assert samples_at_once(prepared, lambda: prepared(x))[1] == [8]


class Ranked(nn.Module):
    """A gate that opens everything for the sample that is the brightest of its batch."""

    def forward(self, x):
        brightest = x.mean((1, 2, 3)).argmax() == torch.arange(len(x))
        return torch.where(brightest[:, None], torch.tensor([0.7, 0.0]), torch.tensor([0.0, 0.7]))


@torch.no_grad()
def test_a_gate_of_another_kind_decides_for_the_whole_batch(monkeypatch):
    allow(monkeypatch, 3)
    torch.manual_seed(0)
    model, x = Toy(), torch.randn(8, 1, 8, 8)
    make_dynamic(model, DynamicConfig(targets="conv"))
    nn.init.normal_(model.conv.cheap.channel[0], std=0.3)
    model.conv.gate = Ranked()
    prepared = prepare_for_inference(model.eval(), x)
    assert_close(prepared(x)[0], model(x)[0])


@torch.no_grad()
def test_a_hook_inside_sees_the_whole_batch(monkeypatch):
    allow(monkeypatch, 3)
    model, x = Toy().eval(), torch.randn(8, 1, 8, 8)
    prepared, seen = prepare_for_inference(model, x), []
    with prepared.conv.register_forward_hook(lambda module, args, out: seen.append(len(out))):
        prepared(x)
    assert seen == [8]
    assert samples_at_once(prepared, lambda: prepared(x))[1] == [3, 3, 2]


@pytest.fixture(scope="module")
def network():
    """A dynamic network, and one prepared from it that runs each sample of `clips` by itself."""
    torch.manual_seed(0)
    clips = torch.stack([scale * torch.randn(3, 9, 33, 40) + scale for scale in (-1.5, 0.5, 1.5)])
    model = lively(MODELS.build(dict(type="VaRedInceptionI3d", width=0.125)), clips)
    prepared = prepare_for_inference(model, clips[:1])
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(in_parts, "LARGEST", 1)
        yield model, prepared, clips


def test_a_mixed_batch_in_parts_has_the_same_answer(network):
    model, prepared, clips = network
    parts = []
    gate = dynamic_convs(prepared)["conv2c_3x3.conv"].gate
    with gate.register_forward_hook(lambda module, args, answer: parts.append(len(answer))):
        assert_close(prepared(clips), model(clips))
    assert parts == [1, 1, 1]


def test_gates_are_forced_for_each_sample(network):
    model, prepared, clips = network
    choices = choices_of(model, lambda: model(clips[:1]))
    plan = plan_for(choices, sum(c.dense for c in choices), 0.5, 3, alike=False)
    assert any(len(answers.unique(dim=0)) > 1 for answers in plan.values())
    with forced(model) as follow, forced(prepared) as follow_fast:
        follow(plan), follow_fast(plan)
        # Twice, so that the rows are counted from the first again.
        for _ in range(2):
            assert_close(prepared(clips), model(clips))
    with forced_gates(model, (0, 0.7) * 2), forced_gates(prepared, (0, 0.7) * 2):
        assert_close(prepared(clips), model(clips))


def test_the_record_of_costs_holds_all_samples(network):
    model, prepared, clips = network
    with record_cost(model) as plain, record_cost(prepared) as fast:
        assert_close(prepared(clips), model(clips))
    assert torch.equal(plain.per_layer(3)["full"], fast.per_layer(3)["full"])


def test_a_plan_is_followed_in_its_own_thread_alone():
    conv = VaRedConv2d(3, 8, 3).eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.no_grad(), forced(nn.Sequential(conv)) as follow, ThreadPoolExecutor(1) as other:
        own = conv.gate(x)
        follow({"0": torch.tensor([[0.0, 0.25]])})
        assert conv.gate(x).tolist() == [[0.0, 0.25]]
        assert torch.allclose(other.submit(conv.gate, x).result(), own)
