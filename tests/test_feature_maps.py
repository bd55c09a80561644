"""What is marked computed was computed, what is marked rebuilt was rebuilt from it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convolutions import CASES, gates_of, make_case
from matplotlib.colors import same_color
from torch import nn

from vared_mm.method.observe import forced_gates
from vared_mm.report.feature_maps import (
    COMPUTED,
    REBUILT,
    LayerMaps,
    chosen_layers,
    draw_maps,
    kept_maps,
    maps_to_show,
)

# One path of each axis open: of channels the half, of frames every second.
HALVES = {"both": (0, 1, 0, 1), "channels": (0, 1, 1, 0), "frames": (1, 0, 0, 1)}


def kept(dynamic, x, gates, rows_are_frames=False):
    model = nn.Sequential(dynamic).double().eval()
    with (
        torch.no_grad(),
        forced_gates(model, gates),
        kept_maps({"conv": dynamic}, rows_are_frames) as found,
    ):
        model(x)
    return found


def over_frame(image, kernel):
    """A depthwise kernel over one frame (H, W)."""
    side = kernel.shape[-1]
    kernel = kernel.reshape(1, 1, side, side)
    return F.conv2d(image[None, None], kernel, padding=side // 2)[0, 0]


@pytest.mark.parametrize("halves", HALVES)
@pytest.mark.parametrize("case", ["3x3x3", "odd channels, odd frames", "strides in time and space"])
def test_computed_maps_are_the_plain_ones_and_rebuilt_ones_come_from_them(case, halves):
    dynamic, plain, x = make_case(case, samples=1)
    gates = gates_of(HALVES[halves])
    (layer,) = kept(dynamic, x, gates)
    with torch.no_grad():
        y = plain(x)[0]
    # Both gates multiply every map; only one path of each axis is open.
    gate = math.prod(g for g in gates if g)
    k = math.ceil(len(y) / 2) if halves != "frames" else len(y)
    step = 2 if halves != "channels" else 1
    marked = set(zip(*np.nonzero(layer.computed), strict=True))
    assert marked == {(c, t) for c in range(k) for t in range(0, y.shape[1], step)}
    for c, t in np.ndindex(*layer.computed.shape):
        source = t - t % step
        expected = y[c % k, source]
        if c >= k:
            expected = over_frame(expected, dynamic.cheap.channel[0][c - k])
        if t % step:
            expected = over_frame(expected, dynamic.cheap.time[0][0, c])
        assert layer.computed[c, t] == (c < k and source == t)
        torch.testing.assert_close(
            torch.from_numpy(layer.maps[c, t]), (gate * expected).float(), rtol=1e-5, atol=1e-6
        )


def test_the_widest_open_path_decides_what_was_computed():
    dynamic, _, x = make_case("3x3x3, space 3", samples=1)
    (layer,) = kept(dynamic, x, gates_of((0, 1, 1, 0, 0, 1)))
    assert CASES["3x3x3, space 3"][3][0] == 8
    assert layer.computed.any(1).tolist() == [True] * 4 + [False] * 4
    assert np.flatnonzero(layer.computed.any(0)).tolist() == [0, 4]


def test_the_rows_of_a_2d_network_are_the_frames_of_its_clip():
    dynamic, plain, x = make_case("2-D", samples=3)
    (layer,) = kept(dynamic, x, gates_of((0, 1)), rows_are_frames=True)
    assert layer.maps.shape[:2] == layer.computed.shape == (8, 3)
    with torch.no_grad():
        expected = 0.78 * plain(x).transpose(0, 1)[:4]
    torch.testing.assert_close(torch.from_numpy(layer.maps[:4]), expected.float())
    assert layer.computed[:4].all()
    assert not layer.computed[4:].any()


def test_frames_of_a_2d_network_that_choose_by_themselves_are_marked_by_themselves():
    dynamic, _, x = make_case("2-D", samples=2)
    answers = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=torch.float64)
    dynamic.gate.register_forward_hook(lambda *_: answers)
    model = nn.Sequential(dynamic).eval()
    with torch.no_grad(), kept_maps({"conv": dynamic}, True) as found:
        model(x)
    assert found[0].computed.sum(0).tolist() == [8, 4]


def test_of_several_passes_the_first_is_kept_and_no_hook_stays():
    dynamic, _, x = make_case("3x3x3", samples=2)
    model = nn.Sequential(dynamic).eval()
    with torch.no_grad(), kept_maps({"conv": dynamic}, False) as found:
        first = model(x)
        model(-x)
    assert len(found) == 1
    torch.testing.assert_close(torch.from_numpy(found[0].maps), first[0].float())
    assert not dynamic._forward_hooks
    assert not dynamic.gate._forward_hooks


def test_layers_are_those_that_match_or_up_to_four_that_skip_most_in_their_order():
    layers, share = list("abcdef"), np.array([0.75, 0.25, 0.5, 0.875, 0.5, 1])
    assert chosen_layers(layers, share, None) == ["a", "b", "c", "e"]
    assert chosen_layers(layers, np.array([1, 0.5, 1, 1, 0.25, 1]), None) == ["b", "e"]
    assert chosen_layers(layers, np.ones(6), None) == ["a"]
    assert chosen_layers(layers, share, "[af]") == ["a", "f"]
    with pytest.raises(ValueError, match=r"--layers '\(' is not a regular expression: missing \)"):
        chosen_layers(layers, share, "(")
    with pytest.raises(ValueError, match="--layers 'x' matches the full name of none of the 6"):
        chosen_layers(layers, share, "x")


def layer_of(computed):
    values = np.arange(computed.size, dtype=np.float32).reshape(*computed.shape, 1, 1)
    ramp = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    return LayerMaps("layer", values + ramp, computed)


def test_every_map_of_the_picture_is_the_layers_own_in_the_frame_of_its_kind():
    computed = np.zeros((16, 12), bool)
    computed[:8, ::2] = True
    layer = layer_of(computed)
    figure = draw_maps(layer)
    assert figure.get_suptitle() == "layer: 25% of its maps computed"
    # Four computed and four rebuilt channels, their first eight frames.
    titles = [panel.get_title() for panel in figure.axes]
    channels = (0, 2, 5, 7, 8, 10, 13, 15)
    assert titles == [f"c{c} t{t}" for c in channels for t in range(8)]
    for panel in figure.axes:
        c, t = (int(part[1:]) for part in panel.get_title().split())
        np.testing.assert_array_equal(panel.images[0].get_array(), layer.maps[c, t])
        look = COMPUTED if c < 8 and t % 2 == 0 else REBUILT
        assert all(same_color(s.get_edgecolor(), look["color"]) for s in panel.spines.values())


def test_images_show_computed_channels_above_rebuilt_ones():
    computed = np.arange(20)[:, None] < 10
    shown = [[channel for channel, _ in row] for row in maps_to_show(computed)]
    assert shown == [[0, 1, 3, 4, 5, 6, 8, 9], [10, 11, 13, 14, 15, 16, 18, 19]]
    assert maps_to_show(np.ones((3, 1), bool)) == [[(0, 0), (1, 0), (2, 0)]]


def test_a_layer_that_computes_every_channel_shows_more_of_them():
    computed = np.ones((8, 2), bool)
    computed[:, 1] = False
    assert [row[0][0] for row in maps_to_show(computed)] == list(range(8))
