"""The region layer of YOLOv2 as YOWO trains it, in pure functions.

N samples, A anchors, C classes, H x W cells. Boxes are (x, y, w, h) with their centres and in
cells here, and x1 y1 x2 y2 in pixels outside. A cell's raw numbers are, per anchor, those of the
box (4), of the confidence that it holds an object (1), and of the classes (C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vared_mm.iou import iou

# Width and height in cells, clustered on J-HMDB.
ANCHORS = (
    (0.95878, 3.10197),
    (1.67204, 4.0040),
    (1.75482, 5.64937),
    (3.09299, 5.80857),
    (4.91803, 6.25225),
)


@dataclass(frozen=True)
class RegionLossConfig:
    """Weights of the loss.

    Args:
        object, no_object: of the confidence where an anchor has to answer for a box, and where not.
        classes, coordinates: of the class and of the box.
        gamma: focusing of the class's loss, 0 for plain cross entropy.
        ignore: a box that overlaps the truth by more than this IoU, though another anchor has to
            answer for it, is not told to be none.
    """

    object: float = 5.0
    no_object: float = 1.0
    classes: float = 1.0
    coordinates: float = 1.0
    gamma: float = 2.0
    ignore: float = 0.6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name}={value} has to be 0 or more")
        if self.ignore > 1:
            raise ValueError(f"ignore={self.ignore} is an IoU and has to be 1 or less")


def split_raw(raw: Tensor, anchors: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, A·(5+C), H, W) -> box (N, A, H, W, 4), confidence (N, A, H, W), classes (..., C), raw."""
    numbers = raw.unflatten(1, (anchors, -1)).permute(0, 1, 3, 4, 2)
    return numbers[..., :4], numbers[..., 4], numbers[..., 5:]


def offsets(box: Tensor) -> Tensor:
    """Raw numbers of boxes (..., 4): centre within the cell by a sigmoid, log of the size ratio."""
    return torch.cat([box[..., :2].sigmoid(), box[..., 2:]], dim=-1)


def boxes_in_cells(offset: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (N, A, H, W, 4) -> boxes (N, A, H, W, 4)."""
    height, width = offset.shape[2:4]
    y = torch.arange(height, device=offset.device)[:, None].expand(height, width)
    x = torch.arange(width, device=offset.device).expand(height, width)
    centre = offset[..., :2] + torch.stack([x, y], dim=-1)
    size = offset[..., 2:].exp() * anchors[:, None, None]
    return torch.cat([centre, size], dim=-1)


def corners(boxes: Tensor) -> Tensor:
    """(x, y, w, h) -> (x1, y1, x2, y2)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def centres(boxes: Tensor) -> Tensor:
    """(x1, y1, x2, y2) -> (x, y, w, h)."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def responsible(truth: Tensor, anchors: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """Which anchor, row and column answers for each true box (K, 4): three indices (K,).

    The cell is that of the centre, the anchor the one most like it in size.
    """
    corner = truth.new_zeros(2)
    sizes, shapes = (torch.cat([corner.expand_as(s), s], dim=1) for s in (truth[:, 2:], anchors))
    anchor = iou(sizes[:, None], shapes).argmax(dim=1)
    # A centre on the frame's far edge belongs to the last cell.
    column = truth[:, 0].long().clamp(0, width - 1)
    row = truth[:, 1].long().clamp(0, height - 1)
    return anchor, row, column


def region_losses(
    raw: Tensor,
    truths: Sequence[Tensor],
    labels: Sequence[Tensor],
    anchors: Tensor,
    config: RegionLossConfig,
) -> dict[str, Tensor]:
    """Sums over a sample's cells, means over the samples.

    Args:
        raw: (N, A·(5+C), H, W).
        truths: of each sample the true boxes (K, 4), in cells; K may be 0.
        labels: and their classes (K,).
    """
    box, confidence, classes = split_raw(raw, len(anchors))
    offset = offsets(box)
    predicted = corners(boxes_in_cells(offset.detach(), anchors))
    confidence = confidence.sigmoid()
    sums = {name: raw.new_zeros(()) for name in ("loss_box", "loss_object", "loss_class")}
    for n, (truth, label) in enumerate(zip(truths, labels, strict=True)):
        weight = torch.full_like(confidence[n], config.no_object)
        target = torch.zeros_like(confidence[n])
        if len(truth):
            where = responsible(truth, anchors, *raw.shape[2:])
            true = corners(truth)
            overlap = iou(predicted[n].unsqueeze(-2), true).amax(dim=-1)
            weight = weight.masked_fill(overlap > config.ignore, 0.0)
            weight[where] = config.object
            target[where] = iou(predicted[n][where], true)
            aim = torch.cat([truth[:, :2] - torch.stack(where[:0:-1], dim=1),
                             (truth[:, 2:] / anchors[where[0]]).log()], dim=1)  # fmt: skip
            apart = F.smooth_l1_loss(offset[n][where], aim, reduction="sum")
            sums["loss_box"] = sums["loss_box"] + apart / 2
            sums["loss_class"] = sums["loss_class"] + focal(classes[n][where], label, config.gamma)
        error = (weight * (confidence[n] - target).square()).sum() / 2
        sums["loss_object"] = sums["loss_object"] + error
    scale = {"loss_box": config.coordinates, "loss_object": 1.0, "loss_class": config.classes}
    return {name: scale[name] * total / len(raw) for name, total in sums.items()}


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Σ -(1 - p)^γ log p of the true classes' probabilities p; logits (K, C), labels (K,)."""
    log_p = logits.log_softmax(dim=1).gather(1, labels[:, None])
    return -((1 - log_p.exp()) ** gamma * log_p).sum()
