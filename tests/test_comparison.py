"""Models side by side: which may be compared, by what, and accuracy against GMACs drawn."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import same_color
from results_by_hand import result_of, samples_of

from vared_mm.report.comparison import (
    IncomparableError,
    Point,
    check_comparable,
    common_accuracy,
    points_of,
    scatter,
)


def test_results_of_other_data_or_tasks_are_refused_by_name():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    ours = result_of(samples)
    theirs = replace(ours, name="other", data=replace(ours.data, file="b.txt", fingerprint="def"))
    with pytest.raises(IncomparableError, match=r"vared_net \(.*val.txt.*other \(.*b.txt.*def"):
        check_comparable([ours, ours, theirs])
    with pytest.raises(IncomparableError, match="segmentation on 2 samples"):
        check_comparable([ours, replace(ours, task="segmentation")])
    check_comparable([ours, replace(ours, name="other", checkpoint="other.pth")])


def test_the_accuracy_is_the_first_that_all_results_have():
    samples = samples_of(["a", "b"], [0, 1], ["x"], np.array([0.5, 1]))
    one = result_of(samples, metrics={"acc/video1": 0.6, "acc/clip1": 0.5})
    other = result_of(samples, metrics={"acc/video1": None, "acc/clip1": 0.4})
    assert common_accuracy([one, one]) == "acc/video1"
    assert common_accuracy([one, other]) == "acc/clip1"
    assert [p.accuracy for p in points_of([one, other], "acc/clip1")] == [0.5, 0.4]
    with pytest.raises(IncomparableError, match=r"wanted one of .* came vared_net: \['loss'\]"):
        common_accuracy([result_of(samples, metrics={"loss": 1.0})])


def test_the_scatter_tells_twins_by_filling_and_gives_seeds_one_colour():
    points = [
        Point("net", False, 0.90, 3.0, 3.0 + 1e-15, 3.0),
        Point("vared_net", True, 0.91, 2.0, 1.5, 2.75),
        Point("vared_net", True, 0.93, 2.1, 1.6, 2.8),
    ]
    panel = scatter(points, "acc/top1").axes[0]
    static, *seeds = (container.lines for container in panel.containers)
    for (line, _, bars), point in zip([static, *seeds], points, strict=True):
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (point.gmacs, point.accuracy)
        ((low, _), (high, _)) = bars[0].get_segments()[0]
        assert (low, high) == pytest.approx((point.least, point.most))
        filled = not same_color(line.get_markerfacecolor(), "none")
        assert filled == point.dynamic
    colours = [line.get_color() for line, _, _ in (static, *seeds)]
    assert colours[1] == colours[2] != colours[0]
    assert panel.get_ylabel() == "acc/top1"


@pytest.mark.parametrize(("accuracies", "span"), [
    ((35.34, 35.42), 5), ((0.5, 0.501), 0.05), ((0.0, 1.0), 1.1),
])  # fmt: skip
def test_hardly_any_difference_in_accuracy_does_not_look_great(accuracies, span):
    points = [Point("net", True, accuracy, 1.0, 1.0, 1.0) for accuracy in accuracies]
    low, high = scatter(points, "mIoU").axes[0].get_ylim()
    assert high - low == pytest.approx(span)
    assert (high + low) / 2 == pytest.approx(sum(accuracies) / 2)
