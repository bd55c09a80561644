"""Clips with numbers that are not finite are told of as by the model."""

import pytest
import torch
from prepared import lively
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.method import DynamicConfig, make_dynamic


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_a_broken_clip_is_told_of_as_by_the_model(dynamic, precision, number):
    torch.manual_seed(0)
    # As large as what oneDNN computes, whose ReLU makes zero of NaN.
    model = nn.Sequential(
        nn.Conv3d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv3d(96, 256, 3, padding=1), nn.ReLU()
    )
    x = torch.randn(2, 3, 2, 5, 5)
    if dynamic:
        make_dynamic(model, DynamicConfig(targets="2"))
        model = lively(model, x)
    model = model.eval()
    prepared = prepare_for_inference(model, x, precision=precision)
    x[1, 0, 0, 2, 2] = number
    if dynamic:
        for net in (model, prepared):
            with pytest.raises(ValueError, match="NaN for sample 1 of 2"):
                net(x)
    else:
        expected = model(x)
        assert not expected.isfinite().all()
        assert prepared(x).isfinite().equal(expected.isfinite())


class OfList(nn.Sequential):
    """Reads the first of several maps, as necks do."""

    def forward(self, maps):
        return super().forward(maps[0])


@torch.no_grad()
def test_a_broken_clip_among_several_or_by_a_default_device_is_told_of():
    torch.manual_seed(0)
    layers = nn.Conv3d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv3d(96, 256, 3, padding=1), nn.ReLU()
    x = torch.randn(2, 3, 2, 5, 5)
    of_list = prepare_for_inference(OfList(*layers).eval(), [x])
    of_one = prepare_for_inference(nn.Sequential(*layers).eval(), x)
    x[1, 0, 0, 2, 2] = float("nan")
    expected = nn.Sequential(*layers)(x).isnan()
    assert expected.any()
    assert of_list([x]).isnan().equal(expected)
    with torch.device("cpu"):
        assert of_one(x).isnan().equal(expected)
