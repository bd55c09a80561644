"""The region layer against a slow one in float64, and the boxes of its head by hand."""

import math

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from vared_mm.models.localization import RegionHead
from vared_mm.models.localization.region import (
    ANCHORS,
    RegionLossConfig,
    boxes_in_cells,
    corners,
    offsets,
    region_losses,
    responsible,
    split_raw,
)

SIZES = torch.tensor(ANCHORS, dtype=torch.float64)


def slow_losses(raw, truths, labels, weights):
    """The sums over all samples, anchors and cells one after the other."""
    samples, _, rows, columns = raw.shape
    numbers = raw.view(samples, len(ANCHORS), -1, rows, columns)
    box_loss = object_loss = class_loss = 0.0
    for n in range(samples):
        cells = [
            (a, j, i) for a in range(len(ANCHORS)) for j in range(rows) for i in range(columns)
        ]
        guess, sure = {}, {}
        for a, j, i in cells:
            x, y, w, h, c = numbers[n, a, :5, j, i].tolist()
            width, height = ANCHORS[a][0] * math.exp(w), ANCHORS[a][1] * math.exp(h)
            guess[a, j, i] = (i + sigmoid(x), j + sigmoid(y), width, height)
            sure[a, j, i] = sigmoid(c)
        weight, target = dict.fromkeys(cells, weights.no_object), dict.fromkeys(cells, 0.0)
        for cell in cells:
            if any(overlap(guess[cell], t) > weights.ignore for t in truths[n].tolist()):
                weight[cell] = 0.0
        for truth, label in zip(truths[n].tolist(), labels[n].tolist(), strict=True):
            tx, ty, tw, th = truth
            a = max(range(len(ANCHORS)), key=lambda k: overlap((0, 0, *ANCHORS[k]), (0, 0, tw, th)))
            cell = a, int(ty), int(tx)
            weight[cell], target[cell] = weights.object, overlap(guess[cell], truth)
            x, y, w, h = numbers[n, a, :4, cell[1], cell[2]].tolist()
            aims = (
                tx - int(tx),
                ty - int(ty),
                math.log(tw / ANCHORS[a][0]),
                math.log(th / ANCHORS[a][1]),
            )
            for got, aim in zip((sigmoid(x), sigmoid(y), w, h), aims, strict=True):
                d = abs(got - aim)
                box_loss += (d * d / 2 if d < 1 else d - 0.5) / 2
            p = numbers[n, a, 5:, cell[1], cell[2]].softmax(0)[label].item()
            class_loss += -((1 - p) ** weights.gamma) * math.log(p)
        object_loss += sum(weight[c] * (sure[c] - target[c]) ** 2 for c in cells) / 2
    return box_loss / samples, object_loss / samples, class_loss / samples


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def overlap(a, b):
    wide = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    high = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    shared = max(wide, 0) * max(high, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@pytest.mark.parametrize("seed", range(4))
def test_the_losses_are_those_of_the_slow_region_layer(seed):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, 5 * (5 + 4), 7, 7, generator=generator, dtype=torch.float64)
    counts = (2, 0, 1)
    truths = [torch.rand(k, 4, generator=generator, dtype=torch.float64) * 5 + 0.7 for k in counts]
    labels = [torch.randint(4, (k,), generator=generator) for k in counts]
    weights = RegionLossConfig(ignore=0.4)
    losses = region_losses(raw, truths, labels, SIZES, weights)
    wanted = slow_losses(raw, truths, labels, weights)
    assert [float(loss) for loss in losses.values()] == pytest.approx(wanted, rel=1e-9)


def test_the_losses_fall_to_nothing_where_all_is_told_right():
    """Raw numbers that stand for one true box, of which every other cell is sure it is none."""
    raw = torch.zeros(1, 5, 5 + 3, 7, 7, dtype=torch.float64)
    raw[:, :, 4] = -40
    raw[0, 2, 4, 3, 2], raw[0, 2, 6, 3, 2] = 40, 40
    truth = torch.tensor([[2.5, 3.5, *ANCHORS[2]]], dtype=torch.float64)
    losses = region_losses(
        raw.flatten(1, 2), [truth], [torch.tensor([1])], SIZES, RegionLossConfig()
    )
    assert all(float(loss) < 1e-12 for loss in losses.values())


def test_weights_scale_their_losses():
    raw = torch.randn(2, 5 * 8, 7, 7, dtype=torch.float64)
    truths, labels = [torch.tensor([[3.2, 3.7, 2, 4.0]]).double()] * 2, [torch.tensor([2])] * 2
    one = region_losses(raw, truths, labels, SIZES, RegionLossConfig())
    other = region_losses(raw, truths, labels, SIZES, RegionLossConfig(coordinates=3, classes=0.5))
    assert float(other["loss_box"] / one["loss_box"]) == pytest.approx(3)
    assert float(other["loss_class"] / one["loss_class"]) == pytest.approx(0.5)
    assert other["loss_object"] == one["loss_object"]


def test_the_cell_of_the_centre_and_the_anchor_of_the_size_answer():
    truth = torch.tensor([[0.5, 6.9, 1.0, 3.0], [7.0, 7.0, 5.0, 6.0]], dtype=torch.float64)
    anchor, row, column = responsible(truth, SIZES, 7, 7)
    assert (anchor.tolist(), row.tolist(), column.tolist()) == ([0, 4], [6, 6], [0, 6])


def test_raw_numbers_become_boxes_by_hand():
    raw = torch.zeros(1, 5 * 8, 2, 3)
    raw[0, 8 * 3 + 2, 1, 2] = math.log(2)
    box, _, _ = split_raw(raw, 5)
    found = corners(boxes_in_cells(offsets(box), SIZES.float()))[0, 3, 1, 2]
    width, height = 2 * ANCHORS[3][0], ANCHORS[3][1]
    wanted = [2.5 - width / 2, 1.5 - height / 2, 2.5 + width / 2, 1.5 + height / 2]
    assert found.tolist() == pytest.approx(wanted)


def head_with(cells, classes=3):
    """A head with one anchor of 1 x 1 cell, and raw numbers for 4 x 4 cells with these boxes:
    (row, column): (confidence, class)."""
    head = RegionHead(classes, in_channels=4, anchors=[(1, 1)])
    raw = torch.zeros(1, 5 + classes, 4, 4)
    raw[:, 4] = -20
    for (row, column), (sure, label) in cells.items():
        raw[0, 4, row, column] = math.log(sure / (1 - sure))
        raw[0, 5 + label, row, column] = math.log(8)
    return head, raw


def test_predictions_are_kept_and_scored_by_hand():
    head, raw = head_with({(1, 2): (0.8, 1), (3, 3): (0.004, 0)})
    (found,) = head.predict(raw, (64, 128))
    # Cells of 32 x 16 pixels; the second box is below the confidence that is kept.
    assert found.bboxes.tolist() == [[64, 16, 96, 32]]
    assert found.objectness.tolist() == pytest.approx([0.8])
    assert found.class_probs[0].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.64])


def test_a_more_confident_box_suppresses_its_neighbour_whatever_its_class():
    head, raw = head_with({(1, 1): (0.6, 0), (1, 2): (0.9, 2)})
    raw[0, 0, 1, 1] = 20  # half a cell to the right: an IoU of 1/3
    assert head.predict(raw, (64, 64))[0].labels.tolist() == [2, 0]
    head.nms = 0.3
    assert head.predict(raw, (64, 64))[0].labels.tolist() == [2]


def test_boxes_end_at_the_frame_and_none_is_defined():
    head, raw = head_with({(0, 0): (0.9, 0)})
    raw[0, 2:4, 0, 0] = math.log(4)
    assert head.predict(raw, (64, 64))[0].bboxes.tolist() == [[0, 0, 40, 40]]
    raw[:, 4] = -20
    (nothing,) = head.predict(raw, (64, 64))
    assert nothing.bboxes.shape == (0, 4)
    assert nothing.class_probs.shape == (0, 3)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_losses_of_half_precision_are_computed_in_single(kind):
    head, raw = head_with({(1, 2): (0.8, 1)})
    truth = InstanceData(bboxes=torch.tensor([[30.0, 20, 50, 40]]), labels=torch.tensor([2]))
    samples = [BaseDataElement(gt_instances=truth)]
    low = raw.to(kind)
    assert head.losses(low, samples, (64, 64)) == head.losses(low.float(), samples, (64, 64))
