"""Our backbones as prepared, with another size and mixed batches, against themselves."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from mmengine.registry import MODELS
from prepared import assert_close, lively

import vared_mm  # noqa: F401
from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.static_twin import static_twin
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost

SPACE_3 = dict(search_space=3)
# name: config, size of one input, what the calls of its convolutions take over
BACKBONES = {
    "InceptionI3d": (
        dict(type="VaRedInceptionI3d", width=0.125),
        (3, 9, 33, 40),
        {"conv + norm + relu": 57},
    ),
    "R2Plus1d18": (
        dict(type="VaRedR2Plus1d18", base_channels=6, dynamic=SPACE_3),
        (3, 9, 33, 40),
        {"conv + norm + relu": 29, "conv + norm + add + relu": 8, "conv + norm": 3},
    ),
    "X3D, one gate per block": (
        dict(type="VaRedX3D", gamma_w=1, gamma_b=1, gamma_d=1),
        (3, 7, 33, 40),
        {
            "conv + norm": 15,
            "conv + norm + relu": 13,
            "conv + norm + add + relu": 11,
            "conv": 8,
            "conv + relu": 7,
        },
    ),
    "CorrNet, which cannot be traced as a whole": (
        dict(type="VaRedCorrNet", base_channels=8, clip_len=9),
        (3, 9, 33, 40),
        {"conv + norm + relu": 32, "conv + norm + add + relu": 8, "conv + norm": 6},
    ),
    "ResNetV1c, images": (
        dict(type="VaRedResNetV1c", depth=18, stem_channels=8, base_channels=8, dynamic=SPACE_3),
        (3, 37, 40),
        {"conv + norm + relu": 11, "conv + norm + add + relu": 8, "conv + norm": 3},
    ),
}


@pytest.fixture(scope="module", params=BACKBONES)
def pair(request):
    settings, size, does = BACKBONES[request.param]
    torch.manual_seed(0)
    # Clips of unlike contents, so that gates have something to tell apart.
    x = torch.stack([scale * torch.randn(size) + scale for scale in (-1.5, 0.5, 1.5)])
    model = lively(MODELS.build(copy.deepcopy(settings)), x)
    prepared = prepare_for_inference(model, x[:1])
    return model, prepared, x, does


def test_convolutions_take_over_what_follows_them(pair):
    _, prepared, _, does = pair
    assert Counter(fused(prepared).values()) == does


@torch.no_grad()
def test_a_mixed_batch_of_another_size_has_the_same_answer_decisions_and_cost(pair):
    model, prepared, x, _ = pair
    x = x[..., :-3]
    with record_cost(model) as plain, record_cost(prepared) as fast:
        expected, came = model(x), prepared(x)
    assert_close(came, expected)
    assert len(plain.seen) == len(dynamic_convs(model))
    mixed = 0
    for (name, _, gates, _), (fast_name, _, fast_gates, _) in zip(
        plain.seen, fast.seen, strict=True
    ):
        assert name == fast_name
        assert torch.equal(gates > 0, fast_gates > 0)
        mixed += len(set(map(tuple, (gates > 0).tolist()))) > 1
    assert mixed, "no layer had samples that chose differently"
    assert torch.equal(plain.per_layer(3)["full"], fast.per_layer(3)["full"])


@torch.no_grad()
@pytest.mark.parametrize("end", ["all open", "least", "largest alone"])
def test_forced_gates_reach_the_prepared_network(pair, end):
    model, prepared, x, _ = pair
    space = next(iter(dynamic_convs(model).values())).dynamic.search_space
    axis = {"all open": [0.7] * space, "least": [0.0] * (space - 1) + [0.8]}
    choices = axis.get(end, [0.6] + [0.0] * (space - 1)) * 2
    with forced_gates(model, choices), forced_gates(prepared, choices):
        assert_close(prepared(x[:1]), model(x[:1]))


def test_the_trained_model_is_untouched_and_can_be_pickled(pair):
    model, prepared, *_ = pair
    assert not fused(model)
    assert not any("forward" in vars(module) for module in model.modules())
    again = pickle.loads(pickle.dumps(model))
    assert again.state_dict().keys() == prepared.state_dict().keys()


@torch.no_grad()
def test_a_static_network_is_prepared_too(pair):
    model, _, x, does = pair
    twin = static_twin(model)
    assert not dynamic_convs(twin)
    prepared = prepare_for_inference(twin, x[:1])
    assert Counter(fused(prepared).values()) == does
    assert_close(prepared(x), twin(x))


@torch.no_grad()
def test_with_every_gate_at_one_and_alone_the_twin_is_the_dynamic_network(pair):
    model, _, x, _ = pair
    space = next(iter(dynamic_convs(model).values())).dynamic.search_space
    with forced_gates(model, ([1.0] + [0.0] * (space - 1)) * 2):
        assert_close(static_twin(model)(x), model(x))
