"""CGNet's convolutions: what they compute, what it costs by formula, whose place they take."""

import copy
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.fast.prepare import fused, prepare_for_inference
from vared_mm.method import (
    DynamicConfig,
    DynamicError,
    NoMatchingModuleError,
    UnsupportedConvError,
    make_dynamic,
)
from vared_mm.method.observe import record_cost
from vared_mm.rivals.cgnet import CGConv2d, CGConv3d, CGNetConfig, channel_gated, make_cgnet
from vared_mm.rivals.ghost import GhostConfig


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(),
        nn.Conv3d(8, 6, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(6), nn.ReLU(),
        nn.Conv3d(6, 5, 1, bias=False),
    )  # fmt: skip


def gated(**settings):
    model = network()
    make_cgnet(model, CGNetConfig(**{"targets": "[36]", "threshold": 0.1, **settings}))
    return model


def by_hand():
    """y is the first channel, and the statistics leave it as it is."""
    conv = CGConv2d(4, 1, 1, bias=False, cgnet=dict(threshold=1.0)).eval()
    nn.init.ones_(conv.weight)
    conv.gate.norm.eps = 0.0
    return conv


def test_a_position_above_its_threshold_reads_all_channels_and_another_the_first():
    x = torch.tensor([[2.0, 0.5], [1, 1], [1, 1], [3, 3]]).view(1, 4, 1, 2)
    assert by_hand()(x).flatten().tolist() == [7.0, 0.5]


def test_channels_beyond_those_that_its_filters_read_are_refused_and_not_passed_over():
    with pytest.raises(DynamicError, match=r"CGConv2d takes a batch \(N, 4, H, W\); came \(1, 6,"):
        by_hand()(torch.ones(1, 6, 1, 2))


def test_the_gradient_of_a_threshold_is_that_of_the_sigmoid_times_what_the_gate_lets_in():
    conv, x = by_hand(), torch.tensor([2.0, 1, 1, 3]).view(1, 4, 1, 1)
    conv(x).sum().backward()
    # -alpha s (1 - s) (Y - Yp), s = sigmoid(2 (2 - 1)).
    s = torch.sigmoid(torch.tensor(2.0)).item()
    assert conv.gate.threshold.grad.item() == pytest.approx(-2 * s * (1 - s) * 5, rel=1e-6)


CONVS = {
    "image, bias": nn.Conv2d(8, 6, 3, padding=1),
    "image, stride and dilation": nn.Conv2d(5, 4, 3, stride=2, dilation=2, bias=False),
    "clip, no multiple of p": nn.Conv3d(7, 3, (3, 1, 1), padding=(1, 0, 0)),
    "clip, circular": nn.Conv3d(4, 4, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("conv", CONVS.values(), ids=CONVS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_output_is_the_definition_s(conv, training):
    torch.manual_seed(0)
    conv = copy.deepcopy(conv).double().train(training)
    nn.init.normal_(conv.weight, std=0.5)
    x = torch.randn(3, conv.in_channels, *(6,) * (conv.weight.ndim - 2)).double()
    full, base = conv(x), x.clone()
    base[:, conv.in_channels // 4 :] = 0
    base = conv(base)
    kind = CGConv3d if x.ndim == 5 else CGConv2d
    made = kind.from_conv(conv, CGNetConfig(threshold=0.3))
    # BatchNorm by its definition; evaluation has seen nothing, and divides by about 1.
    z = F.batch_norm(base, None, None, training=True) if training else base / (1 + 1e-5) ** 0.5
    opened = (torch.sigmoid(2.0 * (z - 0.3)) > 0.5).double()
    assert 0 < opened.mean() < 1
    torch.testing.assert_close(made(x), opened * full + (1 - opened) * base)


def test_a_static_checkpoint_lacks_thresholds_and_statistics_alone_and_open_gates_answer_as_it():
    static, model = network().eval(), gated(threshold=-1e6).eval()
    missing, unexpected = model.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".", 2)[-1] for key in missing} == {
        "threshold", "norm.running_mean", "norm.running_var",
    }  # fmt: skip
    x = torch.randn(2, 3, 4, 6, 6)
    torch.testing.assert_close(model(x), static(x), rtol=0, atol=1e-5)


def test_by_formula_it_costs_1_in_p_and_the_open_part_of_the_rest_and_all_of_it_runs():
    model, x = gated(targets="3", threshold=0.0).eval(), torch.randn(2, 3, 4, 6, 6)
    masks = []
    model[3].gate.register_forward_hook(lambda gate, args, out: masks.append(out))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, record_cost(model) as record:
        model(x)
    (mask,) = masks
    dense = 6 * 8 * 27 * 4 * 3 * 3
    table = record.per_layer(2)
    assert table["dense"].tolist() == table["full"].tolist() == [[dense], [dense]]
    for n in range(2):
        share = 0.25 + 0.75 * mask[n].double().mean().item()
        assert table["paper"][n].item() == pytest.approx(dense * share, rel=1e-12)
        assert 0.3 < share < 0.95
        assert record.share(2)[n].item() == pytest.approx(share)
    static = 8 * 3 * 27 * 4 * 36 + 5 * 6 * 4 * 9
    assert counter.get_total_flops() / 2 == 2 * (dense + static)


@pytest.mark.parametrize(("threshold", "share"), [(-0.89, 0.86), (1.0, 0.369)])
def test_a_threshold_opens_the_normal_distribution_s_tail(threshold, share):
    torch.manual_seed(0)
    conv = CGConv2d(8, 16, 1, cgnet=dict(threshold=threshold))
    with record_cost(conv) as record:
        conv(torch.randn(8, 8, 32, 32))
    assert 0.25 + 0.75 * NormalDist().cdf(-threshold) == pytest.approx(share, abs=5e-4)
    assert record.passes[0].share.mean().item() == pytest.approx(share, abs=0.01)


def test_the_prepared_network_answers_as_the_plain_one_and_costs_as_much():
    model, x = gated().eval(), torch.randn(2, 3, 4, 6, 6)
    prepared = prepare_for_inference(model, x)
    assert set(fused(prepared)) == {"0", "3", "6"}
    shares = []
    for network in (model, prepared):
        with torch.no_grad(), record_cost(network) as record:
            y = network(x)
        shares.append(record.share(2))
    torch.testing.assert_close(*shares)
    torch.testing.assert_close(y, model(x), rtol=0, atol=1e-4)


REFUSED = {
    "few channels": (
        nn.Conv3d(3, 8, 1), {},
        "0: Conv3d cannot be made one of CGNet: its 3 input channels cannot be parted in 4; leave "
        "it out of the targets, as a stem is, or give partitions=3 or less",
    ),
    "groups": (nn.Conv2d(8, 8, 3, groups=2), {}, "0: Conv2d .* it has 2 groups"),
    "a dynamic one": (nn.Sequential(nn.Conv2d(8, 8, 1)), {}, "0.0: .* computes something else"),
    "one of CGNet": (CGConv2d(8, 8, 1), {}, "0: .* it already is"),
}  # fmt: skip


@pytest.mark.parametrize(("conv", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_gated_is_refused_by_name_and_nothing_is_changed(conv, settings, message):
    model = nn.Sequential(conv, nn.Conv2d(8, 8, 1))
    if isinstance(conv, nn.Sequential):
        make_dynamic(conv, DynamicConfig())
    before = repr(model)
    with pytest.raises(UnsupportedConvError, match=message):
        make_cgnet(model, CGNetConfig(**settings))
    assert repr(model) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(partitions=1), "partitions is 1; wanted a whole number from 2 on"),
        (dict(threshold=float("nan")), "threshold is nan; wanted a finite number"),
        (dict(slope=0), "slope is 0; wanted more than 0"),
        (dict(exclude=3), "exclude=3 is no list"),
        (dict(treshold=1), "cgnet has no setting 'treshold'; did you mean 'threshold'"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CGNetConfig.make(settings)


@pytest.mark.parametrize("kind", [CGNetConfig, DynamicConfig, GhostConfig])
def test_settings_are_a_dict(kind):
    with pytest.raises(ValueError, match=f"{kind.option} is 5; wanted a dict of settings"):
        kind.make(5)


def test_where_none_is_wide_enough_the_settings_are_told_too():
    with pytest.raises(NoMatchingModuleError, match="cannot be made one of CGNet with these"):
        build("CGNetInceptionI3d", cgnet=dict(partitions=1000))


def test_a_checkpoint_of_a_dynamic_network_is_refused():
    dynamic = network()
    make_dynamic(dynamic, DynamicConfig(targets="[36]"))
    with pytest.raises(DynamicError, match=r"checkpoint's 3\.gate\..*or in another form"):
        gated().load_state_dict(dynamic.state_dict(), strict=False)


def test_folding_a_norm_into_it_is_refused():
    model = gated().eval()
    with pytest.raises(DynamicError, match="its gate and cheap operations come after the product"):
        torch.nn.utils.fuse_conv_bn_eval(model[3], model[4])


def build(name, **settings):
    init_default_scope("mmaction")
    return MODELS.build(dict(type=name, width=0.125, **settings))


def test_a_preset_leaves_the_stem_and_named_targets_are_refused():
    model = build("CGNetInceptionI3d")
    # Of 57, the stem and four of 2 or 3 input channels.
    assert len(channel_gated(model)) == 57 - 5
    assert type(model.conv1a_7x7.conv) is type(build("InceptionI3d").conv1a_7x7.conv)
    with pytest.raises(UnsupportedConvError, match="conv1a_7x7.conv: .* 3 input channels"):
        build("CGNetInceptionI3d", cgnet=dict(targets=r"conv.*"))
    with pytest.raises(NoMatchingModuleError, match="matches the full name of none"):
        build("CGNetInceptionI3d", cgnet=dict(targets="blocks"))


def test_frozen_stages_stay_plain():
    assert len(channel_gated(build("CGNetInceptionI3d", frozen_stages=1))) == 57 - 3 - 4


@torch.no_grad()
def test_a_part_of_one_channel_is_right_where_maps_and_weights_lie_channels_last():
    torch.manual_seed(0)
    settings = dict(partitions=4)
    conv = CGConv2d(4, 8, 3, (1, 2), padding=1, cgnet=settings).eval()
    conv = conv.to(memory_format=torch.channels_last)
    x = torch.randn(8, 4, 6, 1).contiguous(memory_format=torch.channels_last)
    parts, exact_ones = conv.parts(x), copy.deepcopy(conv).double().parts(x.double())
    for part, exact in zip(parts, exact_ones, strict=True):
        assert (part - exact).abs().max() < 1e-5
