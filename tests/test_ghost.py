"""Ghost modules: what they compute and cost, and what of the static network they start from."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.fast.prepare import fused, prepare_for_inference
from vared_mm.method import DynamicConfig, DynamicError, UnsupportedConvError, make_dynamic
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet
from vared_mm.rivals.ghost import GhostConfig, GhostConv2d, GhostConv3d, ghosts, make_ghost
from vared_mm.weights import put_into


def network(channels=5):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(),
        nn.Conv3d(8, channels, 3, stride=(2, 1, 1), padding=1), nn.BatchNorm3d(channels), nn.ReLU(),
    )  # fmt: skip


def ghostly(channels=5, **settings):
    model = network(channels)
    make_ghost(model, GhostConfig(**settings))
    return model


def test_half_of_the_maps_are_convolved_and_the_others_made_of_each_of_them():
    conv = nn.Conv2d(1, 3, 3, padding=1)
    made = GhostConv2d(nn.Conv2d(4, 3, 3, padding=1), GhostConfig())
    assert (made.primary.out_channels, made.cheap.out_channels) == (2, 2)
    x = torch.randn(2, 4, 5, 5)
    y = made(x)
    first = made.primary(x)
    conv.weight.data[0], conv.bias.data[0] = made.cheap.weight[0], made.cheap.bias[0]
    assert y.shape == (2, 3, 5, 5)
    torch.testing.assert_close(y[:, :2], first)
    torch.testing.assert_close(y[:, 2:], conv(first[:, :1])[:, :1])


def test_it_costs_the_primary_filters_and_nine_for_each_of_the_others():
    made = GhostConv3d(nn.Conv3d(6, 9, 3, padding=1), GhostConfig(ratio=3))
    assert made.cheap.kernel_size == (1, 3, 3)
    with FlopCounterMode(display=False) as counter:
        made(torch.randn(1, 6, 4, 5, 5))
    assert counter.get_total_flops() / 2 == 100 * (3 * 6 * 27 + 6 * 9)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "none"])
def test_filters_that_are_multiples_of_the_first_ones_start_as_they_were(bias):
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 5, 3, padding=1, bias=bias)
    # Ratio 3: of two filters, each makes two more; the last of them is cut off.
    scales = torch.tensor([2.0, -0.5, 3.0]).view(-1, 1, 1, 1, 1)
    conv.weight.data[2:] = scales * conv.weight.data[[0, 0, 1]]
    made = GhostConv3d(conv, GhostConfig(ratio=3))
    x = torch.randn(2, 4, 3, 6, 6)
    torch.testing.assert_close(made(x), conv(x))


def test_no_other_multiple_comes_nearer_to_a_filter():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 2, 3, bias=False)
    scale = GhostConv2d(conv, GhostConfig()).cheap.weight[0, 0, 1, 1].item()
    first, other = conv.weight.detach()

    def apart(multiple):
        return (other - multiple * first).square().sum().item()

    assert apart(scale) < min(apart(scale - 0.01), apart(scale + 0.01))


def test_a_static_checkpoint_loads_whole_and_gives_what_is_made_of_the_static_network():
    static = network()
    other = nn.Sequential(*(nn.Conv3d(m.in_channels, m.out_channels, 3) if isinstance(m, nn.Conv3d)
                            else m for m in network()))  # fmt: skip
    make_ghost(other, GhostConfig())
    assert not any(other.load_state_dict(static.state_dict()))
    make_ghost(static, GhostConfig())
    for key, value in static.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_a_static_checkpoint_of_half_precision_gives_the_same_multiples():
    conv = nn.Conv2d(3, 4, 1, bias=False)
    # The second of the two that are convolved is nothing, and so is what is made of it.
    weight = torch.tensor([[1e-4, 2e-4, 0], [0, 0, 0], [3e-4, 6e-4, 0], [1, 1, 1]])[..., None, None]
    ghost = GhostConv2d(conv, GhostConfig(cheap_kernel=1))
    ghost.load_state_dict({"weight": weight.half()})
    torch.testing.assert_close(
        ghost.cheap.weight.flatten(), torch.tensor([3.0, 0]), rtol=2e-3, atol=0
    )


def test_its_own_checkpoint_loads_as_it_is():
    trained, model = ghostly(), ghostly()
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    assert not any(model.load_state_dict(trained.state_dict()))
    assert all(
        torch.equal(p, q) for p, q in zip(trained.parameters(), model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (lambda: dynamic(make_dynamic, DynamicConfig()), r"has 0\.gate\..*, so its network has"),
        (lambda: dynamic(make_cgnet, CGNetConfig(targets="3")), r"has 3\.gate\.threshold"),
        (lambda: ghostly(ratio=3), r"0\.primary\.weight is \(3, 3, .*the model's is \(4, 3,"),
        (lambda: network(6), r"checkpoint's 3\.weight is \(6, 8, 3.*, the model's is \(5, 8, 3"),
    ],
    ids=["dynamic", "CGNet", "another ratio", "another network"],
)
def test_a_checkpoint_of_another_form_is_refused(theirs, message):
    with pytest.raises(DynamicError, match=message):
        ghostly().load_state_dict(theirs().state_dict(), strict=False)


def dynamic(make, config):
    model = network()
    make(model, config)
    return model


def test_a_test_wants_a_ghost_network_s_own_checkpoint_and_names_what_is_missing():
    with pytest.raises(SystemExit, match=r"a.pth is of the static network and has no 0.primary.w"):
        put_into(ghostly(), network().state_dict(), "a.pth", gates_too=True)
    with pytest.raises(SystemExit, match=r"a.pth is of a network with Ghost modules, as 0, which"):
        put_into(network(), ghostly().state_dict(), "a.pth")
    put_into(ghostly(), network().state_dict(), "a.pth")


def test_the_prepared_network_has_both_convolutions_laid_out_and_answers_alike():
    model, x = ghostly().eval(), torch.randn(2, 3, 4, 6, 6)
    prepared = prepare_for_inference(model, x)
    assert set(fused(prepared)) == {"0.primary", "0.cheap", "3.primary", "3.cheap"}
    with torch.no_grad():
        torch.testing.assert_close(prepared(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("conv", "settings", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), {}, "0: Conv2d cannot be made a Ghost module: it has 2 gro"),
        (nn.Conv2d(4, 1, 3), {}, "its 1 output channels are fewer than the ratio, 2; leave it out"),
        (nn.Conv3d(9, 4, 1), {}, "its filters have 9 weights, no more than a cheap one of 9: noth"),
        (GhostConv2d(nn.Conv2d(4, 4, 3), GhostConfig()), {"targets": "nothing"}, "none of the 3"),
    ],
    ids=["groups", "one channel", "few weights", "a name that is none"],
)
def test_what_would_save_nothing_is_refused_by_name(conv, settings, message):
    model = nn.Sequential(conv, nn.Conv2d(4, 4, 3))
    before = repr(model)
    with pytest.raises((UnsupportedConvError, ValueError), match=message):
        make_ghost(model, GhostConfig(**settings))
    assert repr(model) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(ratio=1), "ratio is 1; wanted a whole number from 2 on"),
        (dict(cheap_kernel=2), "cheap_kernel is 2; wanted an odd number"),
        (dict(ration=2), "ghost has no setting 'ration'; did you mean 'ratio'"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GhostConfig.make(settings)


def test_a_backbone_leaves_what_saves_nothing_and_trains():
    init_default_scope("mmaction")
    model = MODELS.build(dict(type="GhostInceptionI3d", width=0.125))
    # conv2b_1x1 reads 8 channels.
    assert len(ghosts(model)) == 56
    model(torch.randn(2, 3, 8, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_writes_into_a_convolution_s_weight_is_told_where_a_ghost_network_starts():
    # As MMAction2's backbones put `pretrained` there.
    ghost = GhostConv2d(nn.Conv2d(4, 8, 3), GhostConfig())
    for name in ("weight", "bias"):
        assert not hasattr(ghost, name)
        with pytest.raises(DynamicError, match=r"by load_from, with pretrained=None"):
            getattr(ghost, name)
