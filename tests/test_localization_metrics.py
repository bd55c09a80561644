"""Recall, Classif., frame-mAP and tubes, against hand-made answers and brute force in float64."""

import itertools
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vared_mm.metrics.average_precision import average_precision, box_iou, right_ones
from vared_mm.metrics.localization import (
    RANGE,
    FrameResult,
    frame_aps,
    recall_and_classification,
    video_aps,
)
from vared_mm.metrics.tubes import LinkConfig, Tube, link, tube_iou

BOX = (10.0, 10.0, 30.0, 50.0)
FAR = (60.0, 60.0, 80.0, 90.0)
JHMDB = Path(__file__).parents[2] / "shared/data/jhmdb/groundtruths_jhmdb.zip"


def frame(truths=(), found=(), video="v", number=1, classes=3):
    """Truths are (box, label, tube), what is found (box, confidence, probabilities or a label)."""
    probs = [np.eye(classes)[p] if isinstance(p, int) else p for _, _, p in found]
    return FrameResult(
        video,
        number,
        np.array([box for box, _, _ in truths]).reshape(-1, 4),
        np.array([label for _, label, _ in truths], int),
        np.array([tube for _, _, tube in truths], int),
        np.array([box for box, _, _ in found]).reshape(-1, 4),
        np.array([sure for _, sure, _ in found], float),
        np.array(probs, float).reshape(-1, classes),
    )


def random_frames(rng, videos=3, length=6, classes=3):
    """Truths that drift, and boxes near them or anywhere, with random scores."""
    frames = []
    for video in range(videos):
        actors = [(rng.uniform(0, 60, 2), int(rng.integers(classes))) for _ in range(2)]
        for number in range(1, length + 1):
            truths, found = [], []
            for tube, (corner, label) in enumerate(actors):
                x, y = corner + 2 * number
                truths.append(((x, y, x + 25, y + 30), label, tube))
                for _ in range(int(rng.integers(3))):
                    x1, y1, x2, y2 = np.array(truths[-1][0]) + rng.normal(0, 4, 4)
                    probs = rng.dirichlet(np.ones(classes))
                    found.append(((x1, y1, x2, y2), rng.random(), probs))
            if rng.random() < 0.4:
                found.append((FAR, rng.random(), rng.dirichlet(np.ones(classes))))
            frames.append(frame(truths, found, f"v{video}", number, classes))
    return frames


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_ap(detections, truths, threshold, overlap):
    """Detections are (score, image, thing); the curve is walked along point by point."""
    detections = sorted(detections, key=lambda d: -d[0])
    taken, points, hits = set(), [], 0
    for rank, (_, image, thing) in enumerate(detections, 1):
        mine = [t for t in truths if t[0] == image]
        best = max(mine, key=lambda t: overlap(thing, t[2]), default=None)
        if best and overlap(thing, best[2]) >= threshold and best[:2] not in taken:
            taken.add(best[:2])
            hits += 1
        points.append((hits / len(truths), hits / rank))
    area = last = 0.0
    for recall in sorted({r for r, _ in points if r > 0}):
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area


def test_iou_by_hand():
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_ends_that_are_pixels_belong_to_the_box():
    # 3 x 3 pixels each, 2 x 2 of them shared.
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3), pixel_ends=True) == pytest.approx(4 / 14)
    assert box_iou((0, 0, 2, 2), (2, 0, 4, 2), pixel_ends=True) == pytest.approx(3 / 15)
    assert box_iou((0, 0, 2, 2), (3, 0, 5, 2), pixel_ends=True) == 0
    assert box_iou((7, 7, 7, 7), (7, 7, 7, 7), pixel_ends=True) == 1


def test_average_precision_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, False])
    # Recalls 1/3 and 2/3 of three things, at precisions 1 and 2/3.
    assert average_precision(scores, right, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(scores[::-1], right[::-1], 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0
    assert np.isnan(average_precision(scores, right, 0))


def test_of_duplicates_the_surest_is_right():
    right = right_ones(
        np.array([0.3, 0.9, 0.5, 0.8]), np.array([0, 0, 1, 0]), np.array([1, 0.6, 0.5, 0.4]), 0.5
    )
    assert right.tolist() == [False, True, True, False]


CASES = {
    # name: what is found, (recall, classif, frame AP) of the one true box of class 1
    "perfect": ([(BOX, 0.9, 1)], (1, 1, 1)),
    "shifted by half its width": ([((20, 10, 40, 50), 0.9, 1)], (0, 0, 0)),
    "shifted by a fifth": ([((14, 10, 34, 50), 0.9, 1)], (1, 1, 1)),
    "wrong class": ([(BOX, 0.9, 2)], (1, 0, 0)),
    "duplicate": ([(BOX, 0.9, 1), (BOX, 0.8, 1)], (1, 1, 1)),
    "a surer one elsewhere": ([(BOX, 0.8, 1), (FAR, 0.9, 1)], (1, 1, 0.5)),
    "nothing": ([], (0, 0, 0)),
    "too unsure for Recall": ([(BOX, 0.25, 1)], (0, 0, 1)),
    "better box of another class": (
        [((12, 10, 32, 50), 0.9, 1), (BOX, 0.5, 2)],
        (1, 0, 1),
    ),
    "class by the likeliest": ([(BOX, 0.9, (0.2, 0.5, 0.3))], (1, 1, 1)),
}


@pytest.mark.parametrize(("found", "wanted"), CASES.values(), ids=CASES)
def test_one_box_by_hand(found, wanted):
    frames = [frame([(BOX, 1, 0)], found)]
    aps = frame_aps(frames, 3)
    assert (*recall_and_classification(frames), aps[1]) == pytest.approx(wanted)
    assert np.isnan(aps[[0, 2]]).all()


def test_a_box_of_the_same_place_in_another_frame_is_no_duplicate():
    frames = [frame([(BOX, 1, 0)], [(BOX, 0.9, 1)], number=n) for n in (1, 2)]
    assert frame_aps(frames, 3)[1] == 1


def test_frames_without_truth_cost_precision_and_no_recall():
    frames = [frame([(BOX, 1, 0)], [(BOX, 0.5, 1)]), frame([], [(BOX, 0.9, 1)], number=2)]
    assert frame_aps(frames, 3)[1] == 0.5
    assert recall_and_classification(frames) == (1, 1)


def test_nothing_at_all_is_defined():
    assert recall_and_classification([frame()]) == (0, 0)
    assert np.isnan(frame_aps([frame()], 3)).all()
    assert np.isnan(video_aps([frame()], 3, [0.5])).all()
    assert np.isnan(frame_aps([], 3)).all()


@pytest.mark.parametrize("seed", range(8))
def test_frame_ap_and_recall_are_those_of_brute_force(seed):
    frames = random_frames(np.random.default_rng(seed))
    aps = frame_aps(frames, 3)
    truths, hit, right = [], 0, 0
    detections = []
    for image, one in enumerate(frames):
        for box, sure, probs in zip(one.boxes, one.confidence, one.class_probs, strict=True):
            detections.append((int(probs.argmax()), sure * probs.max(), image, box))
        for number, (box, label) in enumerate(zip(one.truth_boxes, one.truth_labels, strict=True)):
            truths.append((label, image, number, box))
            sure = [k for k in range(len(one.boxes)) if one.confidence[k] > 0.25]
            best = max(sure, key=lambda k: slow_iou(one.boxes[k], box), default=None)
            if best is not None and slow_iou(one.boxes[best], box) > 0.5:
                hit += 1
                right += int(one.class_probs[best].argmax()) == label
    for c in range(3):
        mine = [t[1:] for t in truths if t[0] == c]
        if mine:
            wanted = slow_ap([d[1:] for d in detections if d[0] == c], mine, 0.5, slow_iou)
            assert aps[c] == pytest.approx(wanted, abs=1e-12)
    assert recall_and_classification(frames) == pytest.approx((hit / len(truths), right / hit))


@pytest.mark.parametrize("seed", range(8))
def test_the_first_tube_is_the_best_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    boxes = [
        np.sort(rng.uniform(0, 50, (int(rng.integers(1, 4)), 2, 2)), axis=1).reshape(-1, 4)
        for _ in range(5)
    ]
    scores = [rng.random((len(b), 2)) for b in boxes]
    tubes = link(range(1, 6), boxes, scores, LinkConfig(tubes=1))
    for c in range(2):
        best = max(
            itertools.product(*(range(len(b)) for b in boxes)),
            key=lambda path: sum(
                scores[t][path[t], c]
                + scores[t + 1][path[t + 1], c]
                + slow_iou(boxes[t][path[t]], boxes[t + 1][path[t + 1]])
                for t in range(4)
            ),
        )
        (tube,) = tubes[c]
        np.testing.assert_allclose(tube.boxes, [boxes[t][k] for t, k in enumerate(best)])
        mean = np.mean([scores[t][k, c] for t, k in enumerate(best)])
        assert tube.score == pytest.approx(mean)


def test_the_next_tube_is_made_of_what_is_left():
    near, far = np.array([BOX]), np.array([FAR])
    both = np.concatenate([near, far])
    scores = [np.array([[0.9], [0.4]])] * 3
    first, second = link([1, 2, 3], [both] * 3, scores)[0]
    np.testing.assert_allclose(first.boxes, [BOX] * 3)
    np.testing.assert_allclose(second.boxes, [FAR] * 3)
    assert (first.score, second.score) == pytest.approx((0.9, 0.4))


def test_a_missing_box_is_filled_in_along_a_straight_line():
    boxes = [np.array([[0.0, 0, 10, 10]]), np.zeros((0, 4)), np.array([[4.0, 8, 14, 18]])]
    scores = [np.ones((1, 1)), np.zeros((0, 1)), np.ones((1, 1))]
    (tube,) = link([1, 2, 3], boxes, scores)[0]
    np.testing.assert_allclose(tube.boxes[1], [2, 4, 12, 14])
    assert tube.score == pytest.approx(2 / 3)


def test_a_tube_ends_at_a_gap_and_stretches_over_the_video_without_one():
    there = {2, 3, 7}
    boxes = [np.array([BOX]) if n in there else np.zeros((0, 4)) for n in range(1, 10)]
    scores = [np.full((len(b), 1), 0.6) for b in boxes]
    short = link(range(1, 10), boxes, scores, LinkConfig(max_gap=2))[0]
    assert [tube.frames.tolist() for tube in short] == [[2, 3], [7]]
    (whole,) = link(range(1, 10), boxes, scores)[0]
    assert whole.frames.tolist() == list(range(1, 10))
    assert whole.score == pytest.approx(3 * 0.6 / 9)
    (bridged,) = link(range(1, 10), boxes, scores, LinkConfig(max_gap=3))[0]
    assert bridged.frames.tolist() == [2, 3, 4, 5, 6, 7]


def test_of_a_single_frame_the_best_box_is_the_tube():
    boxes, scores = [np.array([BOX, FAR])], [np.array([[0.3], [0.7]])]
    (tube,) = link([4], boxes, scores, LinkConfig(tubes=1))[0]
    assert (tube.frames.tolist(), tube.boxes.tolist()) == ([4], [list(FAR)])


def test_boxes_below_the_score_make_no_tube():
    boxes, scores = [np.array([BOX])] * 2, [np.array([[0.2, 0.01]])] * 2
    assert [len(t) for t in link([1, 2], boxes, scores, LinkConfig(min_score=0.1))] == [1, 0]
    assert link([], [], []) == []


def test_the_iou_of_tubes_by_hand():
    one = Tube(np.arange(1, 5), np.array([BOX] * 4))
    other = Tube(np.arange(3, 7), np.array([BOX, (10.0, 10, 30, 30), BOX, BOX]))
    # 2 of 6 frames are shared; the boxes there overlap by 1 and by a half.
    assert tube_iou(one, other) == pytest.approx(2 / 6 * 0.75)
    assert tube_iou(one, Tube(np.arange(7, 9), np.array([BOX] * 2))) == 0


@pytest.mark.parametrize("seed", range(6))
def test_video_ap_is_that_of_brute_force_on_the_linked_tubes(seed):
    frames = random_frames(np.random.default_rng(seed))
    found, truths = [], []
    for name in ("v0", "v1", "v2"):
        video = [f for f in frames if f.video == name]
        tubes = link(
            [f.frame for f in video],
            [f.boxes for f in video],
            [f.confidence[:, None] * f.class_probs for f in video],
        )
        found += [(c, t.score, name, t) for c, of in enumerate(tubes) for t in of]
        for tube in range(2):
            boxes = np.array([f.truth_boxes[tube] for f in video])
            label = int(video[0].truth_labels[tube])
            truths.append((label, name, tube, Tube(np.arange(1, 7), boxes)))

    def slow_tube_iou(a, b):
        pairs = [
            (x, y)
            for i, x in zip(a.frames, a.boxes, strict=True)
            for j, y in zip(b.frames, b.boxes, strict=True)
            if i == j
        ]
        mean = sum(slow_iou(x, y) for x, y in pairs) / len(pairs)
        return mean * len(pairs) / len({*a.frames, *b.frames})

    thresholds = (0.2, 0.5, 0.75)
    aps = video_aps(frames, 3, thresholds)
    for row, threshold in zip(aps, thresholds, strict=True):
        for c in range(3):
            mine = [t[1:] for t in truths if t[0] == c]
            if mine:
                detections = [d[1:] for d in found if d[0] == c]
                wanted = slow_ap(detections, mine, threshold, slow_tube_iou)
                assert row[c] == pytest.approx(wanted, abs=1e-12)


def test_perfect_tubes_score_1_at_every_threshold_and_a_shifted_one_below_its_iou():
    shifted = (14.0, 10.0, 34.0, 50.0)  # IoU 2/3
    perfect = [frame([(BOX, 1, 0)], [(BOX, 0.9, 1)], number=n) for n in (1, 2, 3)]
    moved = [frame([(BOX, 1, 0)], [(shifted, 0.9, 1)], number=n) for n in (1, 2, 3)]
    assert video_aps(perfect, 3, RANGE)[:, 1].tolist() == [1] * 10
    assert video_aps(moved, 3, RANGE)[:, 1].tolist() == [1] * 4 + [0] * 6


def split_1(noise, classes=21, boxes=8):
    """A frame for every line of the ground truth: the true box moved by `noise` pixels, and others
    of low confidence anywhere, as a detector leaves them."""
    rng = np.random.default_rng(0)
    frames = []
    with zipfile.ZipFile(JHMDB) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".txt")):
            label, *box = map(float, archive.read(name).split())
            video, number = name.rsplit("_", 1)
            others = rng.uniform(0, 100, (boxes, 4)) + np.array([0, 0, 100, 100])
            found = np.concatenate([np.array([box]) + noise * rng.normal(size=4), others])
            probs = np.full((boxes + 1, classes), 0.01)
            probs[:, int(label) - 1] = 0.8
            frames.append(
                FrameResult(
                    video, int(number[:-4]), np.array([box]), np.array([int(label) - 1]),
                    np.array([0]), found, np.array([0.95] + [0.01] * boxes), probs,
                )
            )  # fmt: skip
    return frames


@pytest.mark.skipif(not JHMDB.is_file(), reason="the ground truth of J-HMDB is not here")
def test_on_the_whole_split_1_perfect_boxes_score_1_in_under_10_seconds():
    frames = split_1(noise=0)
    assert len(frames) == 9126
    start = time.process_time()
    scores = recall_and_classification(frames)
    frame_ap = frame_aps(frames, 21)
    video_ap = video_aps(frames, 21, [0.2, *RANGE])
    assert time.process_time() - start < 10
    assert scores == (1, 1)
    assert frame_ap.tolist() == [1] * 21
    assert (video_ap == 1).all()


@pytest.mark.skipif(not JHMDB.is_file(), reason="the ground truth of J-HMDB is not here")
def test_noise_on_split_1_scores_what_the_moved_boxes_overlap():
    frames = split_1(noise=15, boxes=0)
    overlaps = [slow_iou(f.boxes[0], f.truth_boxes[0]) for f in frames]
    recall, classif = recall_and_classification(frames)
    assert recall == pytest.approx(np.mean(np.array(overlaps) > 0.5))
    assert 0.5 < recall < 1
    assert classif == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(tubes=0), "tubes is 0; wanted a whole number from 1 up"),
        (dict(tubes=2.5), "tubes is 2.5"),
        (dict(min_score=1), "min_score is 1; wanted a number from 0 to below 1"),
        (dict(min_score="a"), "min_score is 'a'"),
        (dict(max_gap=-1), "max_gap is -1; wanted 0 or more frames, or None"),
        (dict(max_gap=float("nan")), "max_gap is nan"),
    ],
)
def test_links_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LinkConfig(**values)


@pytest.mark.parametrize("aps", [frame_aps, lambda *args: video_aps(*args, [0.5])])
def test_labels_without_a_class_and_frames_that_come_twice_are_refused(aps):
    for label in (-1, 3):
        with pytest.raises(ValueError, match=rf"frame 7 of v has the label {label}; wanted 0 to 2"):
            aps([frame([(BOX, label, 0)], number=7)], 3)
    with pytest.raises(ValueError, match="frame 7 of v came twice"):
        aps([frame([(BOX, 0, 0)], [(BOX, 1.0, 0)], number=7)] * 2, 3)
