"""The pictures of what gates chose say the numbers that loops find."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from vared_mm.report.plot_style import DARK_CYCLE, LIGHT_CYCLE, SHARE_MAP, picture, settings
from vared_mm.report.policy_plots import (
    choice_rates,
    gmacs_histogram,
    heat_map,
    mean_shares,
    policy_rows,
    rate_bars,
    share_and_loss,
    short_names,
)
from vared_mm.report.sample_groups import extremes, groups_of, widest

LABELS = np.array([2, 0, 2, 0, 2, 0])
CLASSES = ("up", "down", "left")
LAYER_SHARE = np.array(
    [[1, 0.5], [0.25, 1], [0.5, 0.5], [1, 1], [0.25, 0.5], [0.25, 1]], dtype=float
)
LAYERS = ("backbone.a.conv", "backbone.b.0.conv")


def groups(wanted=None):
    return groups_of(LABELS, CLASSES, wanted)


def luminance(colour):
    """As WCAG defines it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_samples_of_each_class_stand_at_their_places():
    by_name = {group.name: group.places.tolist() for group in groups()}
    assert by_name == {"up": [1, 3, 5], "down": [], "left": [0, 2, 4]}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (2, ["up", "down"]),
        (25, ["up", "down", "left"]),
        (None, ["up", "down", "left"]),
        (("left", "up"), ["left", "up"]),
    ],
)
def test_classes_are_the_first_ones_all_or_those_named_in_their_order(wanted, names):
    assert [group.name for group in groups(wanted)] == names


def test_classes_without_names_are_numbered_and_samples_without_labels_stand_together():
    assert [g.name for g in groups_of(LABELS, None)] == ["class 0", "class 1", "class 2"]
    (all_samples,) = groups_of(np.full(3, -1), CLASSES)
    assert all_samples.places.tolist() == [0, 1, 2]


def test_a_class_that_is_not_there_is_refused_with_those_like_it():
    with pytest.raises(ValueError, match="no class 'lefft' among the 3; there is 'left'"):
        groups(("lefft",))
    with pytest.raises(ValueError, match=r"\['up'\] are wanted, but no sample has a label"):
        groups_of(np.full(3, -1), CLASSES, ("up",))


def test_the_sample_with_most_and_with_least_computation_is_the_first_of_equals():
    share = np.array([0.5, 0.9, 0.7, 0.4, 0.7, 0.4])
    up, down, left = groups()
    assert extremes(share, up) == (1, 3)
    assert extremes(share, left) == (2, 0)
    with pytest.raises(ValueError, match="'down' has no sample among those evaluated"):
        extremes(share, down)


def test_the_widest_classes_come_first_and_empty_ones_never():
    share = np.array([0.5, 0.9, 0.7, 0.4, 0.7, 0.4])
    assert [group.name for group in widest(share, groups(), 3)] == ["up", "left"]
    assert [group.name for group in widest(share, groups(), 1)] == ["up"]


def test_the_heat_map_shows_the_means_of_a_loop():
    figure = heat_map(mean_shares(LAYER_SHARE, groups()), LAYERS, groups())
    panel = figure.axes[0]
    shown = panel.images[0].get_array()
    for layer in range(2):
        for label, name in enumerate(CLASSES):
            own = [row[layer] for row, its in zip(LAYER_SHARE, LABELS, strict=True) if its == label]
            if name == "down":
                assert shown.mask[layer, label], "no sample leaves the field empty"
            else:
                assert shown[layer, label] == pytest.approx(100 * sum(own) / len(own))
    assert [text.get_text() for text in panel.get_yticklabels()] == ["a", "b.0"]
    names = [text.get_text() for text in panel.get_xticklabels()]
    assert names == ["up", "down (no sample)", "left"]


def test_lighter_is_less_computed_all_along_the_scale():
    colours = matplotlib.colormaps[SHARE_MAP](np.linspace(0, 1, 21))
    values = [luminance(colour) for colour in colours]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.5, "as unlike as they can be"


def test_the_labels_of_57_layers_do_not_touch():
    layers = [f"backbone.mixed_{i}.branch.conv" for i in range(57)]
    shares = np.full((57, 1), 0.5)
    figure = heat_map(shares, layers, groups_of(np.full(2, -1), None))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


def test_the_rates_of_the_choices_by_hand():
    # ceil(7 / 2) / 7 and 2 of 3 frames are halves, 1/64 the smallest product of two axes.
    share = np.array([[1.0, 4 / 7], [0.5, 2 / 3], [0.25, 1 / 64], [1.0, 1.0]])
    expected = [[0.5, 0.25, 0.25, 0, 0, 0, 0], [0.25, 0.5, 0, 0, 0, 0, 0.25]]
    assert choice_rates(share).tolist() == expected


def test_the_bars_of_a_layer_are_its_rates_one_after_the_other():
    rates = choice_rates(LAYER_SHARE)
    panel = rate_bars(rates, LAYERS).axes[0]
    bars = [(b.get_y() + b.get_height() / 2, b.get_x(), b.get_width()) for b in panel.patches]
    # Of the first layer 2 samples of 6 compute all, 1 half, 3 a quarter; of the second 3 and 3.
    first = [(x, w) for y, x, w in bars if round(y) == 0 and w]
    assert np.allclose(first, [(0, 100 / 3), (100 / 3, 100 / 6), (50, 50)])
    assert np.allclose([(x, w) for y, x, w in bars if round(y) == 1 and w], [(0, 50), (50, 50)])


def test_the_histogram_counts_the_samples_and_marks_the_dense_network():
    paper, full = np.array([1.0, 1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0, 5.0])
    panel = gmacs_histogram(paper, full, dense=6.0, bins=4).axes[0]
    heights = [bar.get_height() for bar in panel.patches]
    # Bins of 1 from 1 to 5, the last one closed.
    assert heights == [2, 1, 1, 0, 0, 2, 0, 2]
    assert panel.lines[0].get_xdata() == [6, 6]


def test_the_scatter_has_right_and_wrong_samples_apart_and_others_together():
    share, loss = np.array([0.5, 1.0, 0.25]), np.array([0.1, 2.0, 0.3])
    panel = share_and_loss(share, loss, np.array([1.0, 0.0, 1.0])).axes[0]
    right, wrong = (points.get_offsets().tolist() for points in panel.collections)
    assert (right, wrong) == ([[50, 0.1], [25, 0.3]], [[100, 2.0]])
    assert panel.get_yscale() == "log"
    pixels = share_and_loss(share, np.array([0, np.nan, 1]), np.array([0.5, np.nan, 1])).axes[0]
    (points,) = pixels.collections
    assert points.get_offsets().tolist() == [[50, 0], [25, 1]]
    assert pixels.get_yscale() == "linear"


def test_the_rows_of_policies_leave_closed_paths_empty():
    answers = np.array([[0.5, 0, 0.9, 0.1], [0, 0.25, 0.9, 0]])
    panel = policy_rows(answers, ["net.a.conv", "net.a.conv", "net.b.conv", "net.b.conv"], "xy")
    panel = panel.axes[0]
    shown = panel.images[0].get_array()
    assert shown.mask.tolist() == [[False, True, False, False], [True, False, False, True]]
    assert shown.compressed().tolist() == [0.5, 0.9, 0.1, 0.25, 0.9]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["backbone.a.conv", "backbone.b.conv"], ["a", "b"]),
        (["a.0.conv", "a.1.conv", "a.1.down.conv"], ["0", "1", "1.down"]),
        (["net.conv"], ["net.conv"]),
        (["conv.conv", "conv"], ["conv.conv", "conv"]),
    ],
)
def test_layer_names_lose_what_all_of_them_share_and_stay_different(names, short):
    assert short_names(names) == short


def test_a_picture_exists_on_light_and_on_dark_paper_with_readable_ink(tmp_path):
    def draw():
        return gmacs_histogram(np.ones(3), np.ones(3), dense=2.0)

    both = picture("title", "caption", draw)
    papers = []
    for name, data in (("light", both.light), ("dark", both.dark)):
        (tmp_path / name).write_bytes(data)
        papers.append(imread(tmp_path / name, format="png")[0, 0, :3])
    # WCAG asks for a contrast of 3 between what is drawn and its paper, of 7 for text.
    for paper, cycle, dark in zip(papers, (LIGHT_CYCLE, DARK_CYCLE), (False, True), strict=True):
        assert luminance(paper) > 0.9 or dark
        assert all(contrast(colour, paper) > 3 for colour in cycle)
        assert contrast(settings(dark)["text.color"], paper) > 7
    assert luminance(papers[1]) < 0.02
    assert matplotlib.rcParams["figure.facecolor"] == matplotlib.rcParamsDefault["figure.facecolor"]
