"""Gates that follow a plan, in the plain and in the prepared network."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.registry import MODELS
from prepared import assert_close, lively
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.fast import prepare_for_inference
from vared_mm.fast.forced_shares import choices_of, forced, plan_for
from vared_mm.method import VaRedConv2d
from vared_mm.method.observe import forced_gates, record_cost


@pytest.fixture(scope="module")
def network():
    """A dynamic network, and one prepared from it for a clip; and three clips unlike each other."""
    torch.manual_seed(0)
    clips = torch.stack([scale * torch.randn(3, 9, 33, 40) + scale for scale in (-1.5, 0.5, 1.5)])
    model = lively(MODELS.build(dict(type="VaRedInceptionI3d", width=0.125)), clips)
    with torch.no_grad():
        yield model, prepare_for_inference(model, clips[:1]), clips


def test_gates_are_forced_for_each_sample(network):
    model, prepared, clips = network
    choices = choices_of(model, lambda: model(clips[:1]))
    plan = plan_for(choices, sum(c.dense for c in choices), 0.5, 3, alike=False)
    assert any(len(answers.unique(dim=0)) > 1 for answers in plan.values())
    with forced(model) as follow, forced(prepared) as follow_fast:
        follow(plan), follow_fast(plan)
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
