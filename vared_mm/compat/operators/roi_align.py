"""RoIAlign (He et al., ICCV 2017) as two matrix products per region.

A bin averages bilinear samples on a regular grid. A bilinear weight is a weight along y times a
weight along x, and so is the rule that a sample outside the map counts as 0; the average over the
grid is then Y · feature · Xᵀ with one small matrix per region and axis.

R regions, C channels, H x W the feature map, P x Q the bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

AVERAGE = 1
REGIONS_AT_ONCE = 64
"""Bounds the intermediate (R, C, P, W): 64 regions of 256 channels, 7 bins, width 304: 139 MB."""


def axis_weights(start: Tensor, size: Tensor, bins: int, length: int, samples: int) -> Tensor:
    """(R, bins, length): the weight of each of `length` pixels in each bin of each region.

    `start` and `size` (R,) are in pixels of the feature map. `samples` is the number of samples
    per bin; 0 takes one per pixel of the bin, rounded up.
    """
    count = (size / bins).ceil() if samples <= 0 else torch.full_like(size, samples)
    bin_size = (size / bins)[:, None, None]
    bin_number = torch.arange(bins, device=size.device)[None, :, None]
    most = int(count.max().clamp(min=0)) if len(count) else 0
    sample = torch.arange(most, device=size.device)[None, None, :]
    count = count[:, None, None]
    position = start[:, None, None] + bin_number * bin_size
    position = position + (sample + 0.5) * bin_size / count.clamp(min=1)

    counts = (position >= -1) & (position <= length) & (sample < count)
    share = counts / count.clamp(min=1)
    position = position.clamp(0, length - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=length - 1)
    above = position - low
    weights = position.new_zeros(len(size), bins, length)
    weights.scatter_add_(2, low, (1 - above) * share)
    weights.scatter_add_(2, high, above * share)
    return weights


def _weights_by_image(
    rois: Tensor,
    feature: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For each image and group of its regions: image, which regions, their Y and X."""
    # Half precision cannot hold the position of a pixel; positions are float32 or finer.
    boxes = rois[:, 1:].to(torch.promote_types(rois.dtype, torch.float32))
    boxes = boxes * spatial_scale - (0.5 if aligned else 0.0)
    start, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if not aligned:
        size = size.clamp(min=1)
    height, width = feature.shape[2:]
    image_of = rois[:, 0].long()
    for image in range(len(feature)):
        for which in (image_of == image).nonzero()[:, 0].split(REGIONS_AT_ONCE):
            x0, y0 = start[which].unbind(dim=1)
            w, h = size[which].unbind(dim=1)
            y = axis_weights(y0, h, bins[0], height, sampling_ratio).to(feature.dtype)
            x = axis_weights(x0, w, bins[1], width, sampling_ratio).to(feature.dtype)
            yield image, which, y, x


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write to `output` (R, C, P, Q) the bins of `rois` (R, 5: image, x1, y1, x2, y2)."""
    _refuse_max(pool_mode)
    bins = (aligned_height, aligned_width)
    groups = _weights_by_image(rois, input, bins, spatial_scale, sampling_ratio, aligned)
    with torch.autocast(input.device.type, enabled=False):
        for image, which, y, x in groups:
            rows = torch.einsum("rph,chw->rcpw", y, input[image])
            output[which] = torch.einsum("rcpw,rqw->rcpq", rows, x)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to `grad_input` (N, C, H, W) what `grad_output` (R, C, P, Q) says about each pixel."""
    _refuse_max(pool_mode)
    bins = (aligned_height, aligned_width)
    groups = _weights_by_image(rois, grad_input, bins, spatial_scale, sampling_ratio, aligned)
    with torch.autocast(grad_input.device.type, enabled=False):
        for image, which, y, x in groups:
            rows = torch.einsum("rcpq,rqw->rcpw", grad_output[which], x)
            grad_input[image] += torch.einsum("rph,rcpw->chw", y, rows)


def _refuse_max(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs the compiled mmcv; without it only "
            "pool_mode='avg' runs, which is mmcv's default"
        )
