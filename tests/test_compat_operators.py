"""Operators without the compiled mmcv, against loops in float64."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from installed import imported
from torch import Tensor

import vared_mm  # noqa: F401  applies the cures
from vared_mm.compat import compiled_operators


def boxes_and_scores(number: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator, dtype=torch.float64) * 60
    size = torch.rand(number, 2, generator=generator, dtype=torch.float64) * 30
    scores = torch.rand(number, generator=generator, dtype=torch.float64)
    return torch.cat([corner, corner + size], dim=1), scores


def iou_by_hand(a: list[float], b: list[float], offset: int) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("number", "threshold"), [(1, 0.5), (40, 0.2), (300, 0.5), (300, 0.9)])
def test_nms_keeps_what_a_loop_over_pairs_keeps(number, threshold, offset):
    boxes, scores = boxes_and_scores(number, seed=number)
    kept: list[int] = []
    for index in sorted(range(number), key=lambda index: -scores[index]):
        overlaps = (iou_by_hand(boxes[index].tolist(), boxes[k].tolist(), offset) for k in kept)
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(index)

    assert plain("nms")(boxes, scores, iou_threshold=threshold, offset=offset).tolist() == kept


def plain(name: str):
    """The operator as mmcv finds it in `mmcv._ext`."""
    return getattr(compiled_operators.CompiledOperators("mmcv._ext"), name)


def test_nms_of_no_boxes_keeps_none():
    assert plain("nms")(torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5, offset=0).shape == (
        0,
    )


def test_nms_keeps_empty_boxes_whose_overlap_is_not_a_number():
    empty, scores = torch.zeros(3, 4), torch.tensor([0.2, 0.9, 0.5])
    assert plain("nms")(empty, scores, iou_threshold=0.5, offset=0).tolist() == [1, 2, 0]


def soft_nms_by_hand(boxes, scores, threshold, sigma, min_score, method):
    rest = {index: score.item() for index, score in enumerate(scores)}
    kept = []
    while rest:
        best = max(rest, key=rest.__getitem__)
        kept.append((best, rest.pop(best)))
        for index in list(rest):
            overlap = iou_by_hand(boxes[best].tolist(), boxes[index].tolist(), offset=0)
            if method == "gaussian":
                rest[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                rest[index] *= 0.0 if method == "naive" else 1 - overlap
            if rest[index] < min_score:
                del rest[index]
    return kept


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_lowers_scores_as_a_loop_over_pairs_does(method):
    boxes, scores = boxes_and_scores(60, seed=3)
    expected = soft_nms_by_hand(boxes, scores, 0.3, 0.5, 0.05, method)
    dets = boxes.new_empty(60, 5)
    settings = dict(iou_threshold=0.3, sigma=0.5, min_score=0.05, offset=0)
    number = ["naive", "linear", "gaussian"].index(method)

    kept = plain("softnms")(boxes, scores, dets, method=number, **settings)

    assert kept.tolist() == [index for index, _ in expected]
    assert torch.equal(dets[: len(kept), :4], boxes[kept])
    assert dets[: len(kept), 4].tolist() == pytest.approx([score for _, score in expected])


def bilinear_by_hand(image: Tensor, y: float, x: float) -> Tensor:
    """Value of (C, H, W) at a point; 0 from one pixel outside on, and the edge in between."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(image), dtype=image.dtype)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    total = torch.zeros(len(image), dtype=image.dtype)
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def roi_align_by_hand(images, rois, bins, scale, samples, aligned):
    out = images.new_zeros(len(rois), images.shape[1], *bins)
    for number, (image, *box) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (side * scale - (0.5 if aligned else 0.0) for side in box)
        height, width = y1 - y0, x1 - x0
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        rows = samples or math.ceil(height / bins[0])
        columns = samples or math.ceil(width / bins[1])
        for p in range(bins[0]):
            for q in range(bins[1]):
                for i in range(rows):
                    for j in range(columns):
                        y = y0 + (p + (i + 0.5) / rows) * height / bins[0]
                        x = x0 + (q + (j + 0.5) / columns) * width / bins[1]
                        value = bilinear_by_hand(images[int(image)], y, x)
                        out[number, :, p, q] += value / (rows * columns)
    return out


ROI_CASES = [
    pytest.param((2, 2), 0.25, 0, True, id="adaptive"),
    pytest.param((3, 2), 0.25, 2, True, id="two samples, oblong"),
    pytest.param((2, 2), 0.5, 0, False, id="unaligned"),
    pytest.param((1, 4), 1.0, 0, True, id="full scale"),
]


def images_and_rois() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 6, 9, generator=generator, dtype=torch.float64)
    # Inside, across the edge, far outside, without area, thinner than a pixel.
    rois = [[0, 1.3, 2.1, 17.7, 20.2], [1, -9, -7, 12, 30.5], [0, 90, 90, 99, 99]]
    rois += [[1, 4, 4, 4, 4], [1, 3, 2, 3.5, 21]]
    return images, torch.tensor(rois, dtype=torch.float64)


def roi_settings(bins, scale, samples, aligned) -> dict:
    return dict(
        aligned_height=bins[0],
        aligned_width=bins[1],
        spatial_scale=scale,
        sampling_ratio=samples,
        pool_mode=1,
        aligned=aligned,
    )


@pytest.mark.parametrize(("bins", "scale", "samples", "aligned"), ROI_CASES)
def test_roi_align_averages_the_samples_that_a_loop_takes(bins, scale, samples, aligned):
    images, rois = images_and_rois()
    out, unused = images.new_zeros(len(rois), 3, *bins), images.new_zeros(0)
    settings = roi_settings(bins, scale, samples, aligned)

    plain("roi_align_forward")(images, rois, out, unused, unused, **settings)

    expected = roi_align_by_hand(images, rois, bins, scale, samples, aligned)
    assert expected.abs().max() > 0.1
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("bins", "scale", "samples", "aligned"), ROI_CASES)
def test_roi_align_backward_is_the_transpose_of_forward(bins, scale, samples, aligned):
    images, rois = images_and_rois()
    out, unused = images.new_zeros(len(rois), 3, *bins), images.new_zeros(0)
    gradient, into = torch.randn_like(out), torch.zeros_like(images)
    settings = roi_settings(bins, scale, samples, aligned)

    plain("roi_align_forward")(images, rois, out, unused, unused, **settings)
    plain("roi_align_backward")(gradient, rois, unused, unused, into, **settings)

    # The forward pass is linear: <A x, g> = <x, Aᵀ g>.
    assert (out * gradient).sum().item() == pytest.approx((images * into).sum().item(), abs=1e-10)


def test_mmcv_differentiates_roi_align_as_finite_differences_do():
    roi_align = imported("mmcv.ops").roi_align
    images, rois = images_and_rois()
    images.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, 0.25, 0, "avg", True), images)


def test_max_pooling_in_roi_align_is_refused():
    settings = roi_settings((2, 2), 1.0, 0, True) | {"pool_mode": 0}
    with pytest.raises(NotImplementedError, match="pool_mode='max' needs the compiled mmcv"):
        plain("roi_align_forward")(*images_and_rois(), *[torch.zeros(0)] * 3, **settings)


def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    out = torch.zeros_like(logits)
    plain("sigmoid_focal_loss_forward")(logits, target, weight, out, gamma=2.0, alpha=0.25)
    return out


def test_focal_loss_of_an_undecided_logit_by_hand():
    # q = 1/2: alpha (1 - q)^2 ln 2 for the right class, (1 - alpha) (1 - q)^2 ln 2 for the other.
    loss = focal(torch.zeros(1, 2), torch.tensor([0]), torch.zeros(0))
    assert loss[0].tolist() == pytest.approx([math.log(2) / 16, 3 * math.log(2) / 16])


def test_focal_loss_backward_is_its_derivative():
    logits = torch.randn(5, 3, dtype=torch.float64) * 4
    target, weight = torch.tensor([0, 2, 1, 3, 0]), torch.tensor([1.0, 0.5, 2.0]).double()
    gradient, step = torch.zeros_like(logits), 1e-5
    plain("sigmoid_focal_loss_backward")(logits, target, weight, gradient, gamma=2.0, alpha=0.25)
    rise = focal(logits + step, target, weight) - focal(logits - step, target, weight)
    assert torch.allclose(gradient, rise / (2 * step), atol=1e-9)


def test_a_missing_operator_tells_its_name_and_what_to_install(monkeypatch):
    monkeypatch.setattr(compiled_operators, "installed_mmcv", lambda: "mmcv-lite 2.1.0")
    message = (
        r"mmcv operator 'deform_conv_forward' needs the compiled mmcv; installed is mmcv-lite "
        r"2\.1\.0, which has none\. Install full mmcv in its place: pip uninstall mmcv-lite"
    )
    with pytest.raises(compiled_operators.MissingOperatorError, match=message):
        plain("deform_conv_forward")(torch.zeros(1), stride=1)


@pytest.mark.parametrize("name", ["mmaction", "mmdet", "mmseg"])
def test_the_models_of_each_toolbox_import(name):
    imported(name)
    __import__(f"{name}.models")
    registry = importlib.import_module(f"{name}.registry").MODELS
    assert "ResNet" in registry.module_dict
