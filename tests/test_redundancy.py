"""CC, RMSE and RP against loops in float64 and on maps made by hand."""

import numpy as np
import pytest
import torch
from pairs_by_loop import judged

from vared_mm.report.redundancy import (
    LayerTally,
    Tally,
    Thresholds,
    best_matches,
    maps_of,
    neighbours,
    scaled,
)

RAMP = [0.0, 1.0, 2.0, 4.0]  # scaled 0, 1/4, 1/2, 1


def maps_by_hand(*maps):
    """One clip of one frame whose channels are `maps`."""
    return torch.tensor(maps, dtype=torch.float64)[None, None]


def pair(a, b):
    """CC and RMSE of two maps as neighbouring frames, which are those of two channels too."""
    maps = scaled(maps_by_hand(a, b))
    as_time = [value.item() for value in neighbours(maps.movedim(2, 1))]
    as_channel = [value[0, 0, 0].item() for value in best_matches(maps)]
    assert as_time == pytest.approx(as_channel)
    return as_time


@pytest.mark.parametrize(
    ("a", "b", "cc", "rmse"),
    [
        pytest.param(RAMP, RAMP, 1, 0, id="identical"),
        pytest.param(RAMP, [5.0, 8.0, 11.0, 17.0], 1, 0, id="brighter-with-more-contrast"),
        # Scaled 0, 1 against 1, 0.
        pytest.param([0.0, 3.0], [0.0, -3.0], -1, 1, id="negated"),
        # (1, -1, 1, -1) and (1, 1, -1, -1) are orthogonal; half of the pixels differ by 1.
        pytest.param([1.0, 0, 1, 0], [1.0, 1, 0, 0], 0, 0.5**0.5, id="unrelated"),
        # Scaled (0, 1/2, 1) and (1, 0, 1): deviations (-1/2, 0, 1/2) and (1/3, -2/3, 1/3).
        pytest.param([0.0, 1, 2], [9.0, 7, 9], 0, (1.25 / 3) ** 0.5, id="three-pixels"),
        pytest.param([7.0] * 4, [7.0] * 4, 1, 0, id="two-constant"),
        pytest.param([7.0] * 4, [0.0] * 4, 1, 0, id="two-constant-of-other-values"),
        pytest.param([7.0, 7.0], [0.0, 5.0], 0, 0.5**0.5, id="constant-and-not"),
    ],
)
def test_two_maps_by_hand(a, b, cc, rmse):
    assert pair(a, b) == pytest.approx([cc, rmse], abs=1e-12)


def test_what_varies_by_rounding_alone_is_constant():
    # 1 + 2^-23 is the number after 1 in float32.
    rounded = torch.tensor([1.0, 1.0 + 2**-23, 1.0])
    assert scaled(rounded).tolist() == [0, 0, 0]
    assert scaled(torch.tensor([1.0, 1.001, 1.0])).tolist() == [0, 1, 0]


def test_the_best_match_is_the_highest_correlation_and_never_the_map_itself():
    # The first two are alike; the third is the first negated; the fourth is like none.
    maps = maps_by_hand([1.0, 0, 1, 0], [1.0, 0, 0.8, 0], [0.0, 1, 0, 1], [1.0, 1, 0, 0])
    cc, rmse = best_matches(scaled(maps))
    # Deviations (1, -1, 1, -1)/2 and (0.55, -0.45, 0.35, -0.45).
    alike = 0.9 / (1 * (0.55**2 + 0.45**2 + 0.35**2 + 0.45**2) ** 0.5)
    # The second map is the nearest to the fourth one: (0.55 - 0.45 - 0.35 + 0.45) / 2.
    last = 0.1 / (0.55**2 + 0.45**2 + 0.35**2 + 0.45**2) ** 0.5
    assert cc.flatten().tolist() == pytest.approx([alike, alike, 0, last])
    # Third and fourth, the only unrelated pair: half of the pixels differ by 1.
    by_hand = [0.1, 0.1, 0.5**0.5, ((1 + 0.64) / 4) ** 0.5]
    assert rmse.flatten().tolist() == pytest.approx(by_hand)


@pytest.fixture
def output():
    """Two clips, 5 channels of 4 frames; some maps constant, some alike, some opposite."""
    output = torch.randn(2, 5, 4, 3, 6, generator=torch.Generator().manual_seed(0)).double()
    output[:, :, 2] = output[:, :, 1] + 0.1 * output[:, :, 2]
    output[:, 3] = 2 * output[:, 1] + 0.2 * output[:, 3]
    output[0, 4, 1] = -output[0, 4, 0]
    output[1, 2, :2] = 3.0
    output[1, 0, 1] = -1.0
    return output


def test_every_pair_is_what_a_double_loop_finds(output):
    maps = scaled(maps_of(output))
    for axis, (cc, rmse) in {"time": neighbours(maps), "channel": best_matches(maps)}.items():
        by_loop = judged(output.numpy())[axis]
        np.testing.assert_allclose(cc.flatten(), by_loop[:, 0], atol=1e-12)
        np.testing.assert_allclose(rmse.flatten(), by_loop[:, 1], atol=1e-12)


def test_the_summary_is_what_a_double_loop_finds(output):
    tally = LayerTally(Thresholds())
    tally.add(maps_of(output))
    summary = tally.summary()
    assert summary["maps"] == 40
    assert summary["constant"] == 3 / 40
    for axis, pairs in judged(output.numpy()).items():
        cc, rmse = pairs.T
        told = summary[axis]
        assert told["pairs"] == len(pairs) == {"time": 30, "channel": 40}[axis]
        assert told["cc"] == pytest.approx(cc.mean(), abs=1e-12)
        assert told["rmse"] == pytest.approx(rmse.mean(), abs=1e-12)
        redundant = np.mean((cc > 0.85) & (rmse > 0.001))
        assert told["rp"] == redundant
        assert 0 < redundant < 1
        # Rounding may put what is at the edge of a bin beside it, as CC 1 is not.
        expected = np.histogram(rmse, 100, (0, 1))[0]
        assert told["histograms"]["rmse"] == expected.tolist()
        expected = np.histogram(cc.clip(-1 + 1e-9, 1), 80, (-1, 1))[0]
        assert told["histograms"]["cc"] == expected.tolist()


def test_half_precision_is_compared_in_single_precision(output):
    half = output.bfloat16()
    assert neighbours(scaled(maps_of(half)))[0].dtype == torch.float32
    cc = neighbours(scaled(maps_of(half)))[0].flatten()
    by_loop = judged(half.double().numpy())["time"][:, 0]
    np.testing.assert_allclose(cc, by_loop, atol=1e-6)


@pytest.mark.parametrize("room", [1, 2 * 4 * 5 * 2, 2 * 4 * 5 * 3])
def test_best_matches_found_in_pieces_are_the_same(output, room):
    maps = scaled(maps_of(output))
    for whole, pieces in zip(best_matches(maps), best_matches(maps, room), strict=True):
        torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)


def test_clip_after_clip_gives_what_all_at_once_gives_in_the_same_room(output):
    at_once, one_by_one = LayerTally(Thresholds()), LayerTally(Thresholds())
    at_once.add(maps_of(output))
    for clip in output:
        one_by_one.add(maps_of(clip[None]))
    expected, came = at_once.summary(), one_by_one.summary()
    for axis in ("time", "channel"):
        assert came[axis].pop("histograms") == expected[axis].pop("histograms")
        assert came[axis] == pytest.approx(expected[axis], rel=1e-12)

    def size(tally):
        kept = [value for axis in (tally.time, tally.channel) for value in vars(axis).values()]
        return sum(value.numel() if isinstance(value, torch.Tensor) else 1 for value in kept)

    before = size(one_by_one)
    for _ in range(20):
        one_by_one.add(maps_of(output))
    assert size(one_by_one) == before < 400


@pytest.mark.parametrize(("rule", "share"), [("above", 1 / 5), ("below", 2 / 5), ("off", 4 / 5)])
def test_the_redundant_share_by_each_rule(rule, share):
    tally = Tally(Thresholds(cc=0.5, rmse=0.25, rmse_rule=rule))
    # One RMSE is the threshold itself, neither above nor below; one CC is.
    tally.add(torch.tensor([0.6, 0.9, 1.0, 0.8, 0.5]), torch.tensor([0.3, 0.2, 0.0, 0.25, 0.3]))
    assert tally.summary()["rp"] == share


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(cc=1.5), "cc is 1.5; wanted a correlation from -1 to 1"),
        (dict(rmse=-0.1), r"rmse is -0.1; wanted an error of maps in \[0, 1\]"),
        (dict(rmse_rule="over"), "rmse_rule is 'over'; wanted one of .*'above', 'below', 'off'"),
    ],
)
def test_thresholds_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(**settings)


def test_one_frame_has_no_pairs_in_time_and_one_channel_none_among_channels():
    tally = LayerTally(Thresholds())
    tally.add(maps_of(torch.rand(2, 1, 2, 3, 3)))
    # Two clips of two frames: one pair each.
    assert tally.summary()["time"]["pairs"] == 2
    assert tally.summary()["channel"]["pairs"] == 0
    assert tally.summary()["channel"]["cc"] is None
    tally = LayerTally(Thresholds())
    tally.add(maps_of(torch.rand(2, 4, 3, 3)))
    assert tally.summary()["time"]["rp"] is None
    assert tally.summary()["channel"]["pairs"] == 8


def test_rows_of_a_2d_network_are_frames_of_a_clip_or_images():
    rows = torch.arange(24.0).reshape(3, 2, 2, 2)
    assert maps_of(rows, rows_are_frames=True)[0, 2, 1].tolist() == [20, 21, 22, 23]
    assert maps_of(rows)[2, 0, 1].tolist() == [20, 21, 22, 23]
    clip = maps_of(rows.movedim(0, 1)[None])
    assert torch.equal(clip, maps_of(rows, rows_are_frames=True))


def test_values_that_are_not_finite_are_refused():
    tally = LayerTally(Thresholds())
    with pytest.raises(ValueError, match="values that are not finite, which correlate with nothi"):
        tally.add(torch.full((1, 1, 1, 4), torch.nan))
