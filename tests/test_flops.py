"""The identifying figures of the networks, and the range that the gates can choose from."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.compat import config_path
from vared_mm.flops import bounds, build_model, input_of
from vared_mm.method.observe import dynamic_convs

SHAPE = (16, 64, 64)


def model_of(name, **backbone):
    config = Config.fromfile(config_path(name))
    config.model.backbone.update(width=0.25, **backbone)
    config.model.cls_head.in_channels = 256
    return build_model(config)


def test_the_dense_cost_of_the_dynamic_model_is_that_of_its_static_twin():
    static = bounds(model_of("recognition/i3d_k400.py"), SHAPE)
    dynamic = bounds(model_of("recognition/vared_i3d_k400.py"), SHAPE)
    assert dynamic["dense_gmacs"] == pytest.approx(static["dense_gmacs"], rel=1e-9)
    assert dynamic["parts_gmacs"] == pytest.approx(static["parts_gmacs"], rel=1e-6)
    assert sum(dynamic["parts_gmacs"].values()) == pytest.approx(dynamic["dense_gmacs"])
    for name in ("paper_gmacs", "full_gmacs"):
        assert static[name] == {
            "avg": None,
            "min": static["dense_gmacs"],
            "max": static["dense_gmacs"],
        }


@pytest.mark.parametrize("shape", [(64, 64), (0, 64, 64), (16, 64, 64, 3)])
def test_a_shape_that_is_no_clip_is_refused_for_a_recogniser(shape):
    with pytest.raises(ValueError, match="a shape is T H W for clips or H W for images; came"):
        input_of(model_of("recognition/i3d_k400.py"), shape)


def test_the_cheapest_choice_is_a_quarter_of_what_can_choose():
    report = bounds(model_of("recognition/vared_i3d_k400.py"), (8, 64, 64))
    head = report["parts_gmacs"]["cls_head"]
    # Every convolution of I3D is dynamic, and 8 frames are 1 after the last pool: Inception 5b
    # and 5c have half their channels to leave out, but no frame.
    model = model_of("recognition/vared_i3d_k400.py")
    late = sum(
        macs_of(model, (8, 64, 64), name) for name in dynamic_convs(model) if "mixed_5" in name
    )
    by_hand = head + (report["dense_gmacs"] - head - late) / 4 + late / 2
    assert report["paper_gmacs"]["min"] == pytest.approx(by_hand, rel=1e-9)
    assert report["paper_gmacs"]["max"] == pytest.approx(report["dense_gmacs"])
    assert report["full_gmacs"]["min"] > report["paper_gmacs"]["min"]


def macs_of(model, shape, name):
    sizes = {}
    conv = dict(model.named_modules())[name]
    handle = conv.register_forward_hook(lambda m, a, out: sizes.update(out=out.shape))
    with torch.no_grad():
        model(input_of(model, shape), mode="tensor", stage="head")
    handle.remove()
    positions = sizes["out"][2] * sizes["out"][3] * sizes["out"][4]
    return conv.weight.numel() * positions / 1e9


def test_a_shape_that_is_none_is_refused():
    model = model_of("recognition/i3d_k400.py")
    with pytest.raises(ValueError, match=r"T H W for clips or H W for images; came \(1, 2, 3, 4\)"):
        bounds(model, (1, 2, 3, 4))


def test_x3d_m_has_4_73_gmacs_at_224_pixels():
    backbone = dict(type="mmaction.X3D", gamma_w=1, gamma_b=2.25, gamma_d=2.2)
    with torch.device("meta"):
        model = MODELS.build(backbone)
        model.eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 16, 224, 224))
    assert counter.get_total_flops() / 2e9 == pytest.approx(4.73, abs=0.005)
