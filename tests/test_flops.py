"""The identifying figures of the networks, and the range that the gates can choose from."""

import re
import sys

import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from two_scenes import augmented, scenes

from vared_mm.compat import config_path
from vared_mm.flops import bounds, build_model, loader_of, measured
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import dynamic_convs
from vared_mm.tensor_form import input_of

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


def test_a_fixed_policy_is_told_as_what_it_takes_and_not_as_a_range():
    class Fixed(nn.Sequential):
        def forward(self, x, mode):
            return super().forward(x)

    model = Fixed(nn.Conv3d(3, 8, 1)).eval()
    make_dynamic(model, DynamicConfig(gate="fixed", cheap_kernel=1))
    # Half the channels, all frames: 4 filters, of which the other 4 are rebuilt.
    model[0].gate.values.copy_(torch.tensor([0, 1, 1, 0]))
    model.data_preprocessor = nn.Identity()
    report = bounds(model, (4, 5, 5))
    for kind, macs in (("paper_gmacs", 4 * 3), ("full_gmacs", 4 * 3 + 4)):
        assert report[kind]["min"] == report[kind]["max"] == pytest.approx(macs * 100 / 1e9)


def whole(name, **model):
    config = Config.fromfile(config_path(name))
    config.merge_from_dict(dict(model=model))
    return build_model(config)


SEG = "segmentation/fcn/vared-fcn_r18w16-d8_1xb8-200_scenes-96x96.py"
DET = "detection/retinanet/vared-retinanet_r18_fpn_1x_coco.py"
YOWO = "localization/motion_tubes/vared-yowo-i3d_w25_motion_tubes.py"


@pytest.mark.parametrize(
    ("name", "shape", "head"),
    [(SEG, (32, 32), "decode_head"), (DET, (64, 64), "bbox_head"), (YOWO, (8, 64, 64), "fusion")],
)
def test_the_parts_sum_up_where_heads_are_called_past_their_hooks(name, shape, head):
    report = bounds(whole(name), shape)
    parts = report["parts_gmacs"]
    assert sum(parts.values()) == pytest.approx(report["dense_gmacs"], rel=1e-9)
    assert parts[head] > 0
    assert "elsewhere" not in parts


class Backward(nn.Module):
    """A model that does not call its parts in the order in which it holds them."""

    def __init__(self, channels):
        super().__init__()
        self.data_preprocessor, self.factor = nn.Identity(), nn.Parameter(torch.ones(4, 4))
        self.late = nn.Conv2d(4, 2, 1, bias=False)
        self.early = nn.Conv2d(channels, 4, 1, bias=False)

    def forward(self, x, mode):
        return self.late(torch.einsum("ij,njhw->nihw", self.factor, self.early(x)))


@pytest.mark.parametrize("channels", [1, 3, 4, 17])
def test_an_input_has_the_channels_of_the_first_convolution_that_runs(channels):
    model = Backward(channels)
    assert input_of(model, (5, 6)).shape == (1, channels, 5, 6)
    # A product outside of all parts is told as such.
    assert bounds(model, (5, 6))["parts_gmacs"] == {
        "late": 8 * 30 / 1e9, "early": 4 * channels * 30 / 1e9, "elsewhere": 16 * 30 / 1e9,
    }  # fmt: skip


class Focused(BaseModel):
    def __init__(self):
        super().__init__()
        stem = dict(type="mmdet.CSPDarknet", deepen_factor=0.33, widen_factor=0.125)
        self.backbone = MODELS.build(stem)

    def forward(self, x, mode):
        return self.backbone(x)


def test_pixels_that_become_channels_are_no_channels_of_the_input():
    assert input_of(Focused().eval(), (64, 64)).shape == (1, 3, 64, 64)


def test_a_3d_network_of_heatmaps_is_counted():
    backbone = dict(type="VaRedR2Plus1d18", base_channels=8, in_channels=17)
    head = dict(type="I3DHead", num_classes=3, in_channels=64)
    init_default_scope("mmaction")
    model = MODELS.build(dict(type="Recognizer3D", backbone=backbone, cls_head=head))
    assert input_of(model, (8, 32, 32)).shape == (1, 1, 17, 8, 32, 32)
    parts = bounds(model.eval(), (8, 32, 32))["parts_gmacs"]
    assert parts["cls_head"] == 3 * 64 / 1e9


AVA = "localization/ava/vared-slowonly_k400-pre-r50_8xb16-4x16x1-20e_ava21-rgb.py"


@pytest.mark.parametrize(
    ("config", "shape", "name", "wanted"),
    [
        (
            lambda: get_config("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"),
            (64, 64),
            "FasterRCNN",
            "boxes",
        ),
        (lambda: Config.fromfile(config_path(AVA)), (4, 64, 64), "FastRCNN", "boxes"),
        (
            lambda: get_config("mmseg::point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py"),
            (64, 64),
            "CascadeEncoderDecoder",
            "points",
        ),
    ],
    ids=["pictures", "clips", "segmentor"],
)
def test_a_model_that_wants_more_than_any_shape_is_named(config, shape, name, wanted):
    told = f"a {name} does not run on .* wants {wanted}; count it on its own data .*--data N$"
    with pytest.raises(ValueError, match=told):
        bounds(build_model(config()), shape)


def test_a_shape_that_the_network_cannot_take_is_told():
    model = Backward(3)
    model.late = nn.Conv2d(4, 2, 3)
    message = r"a Backward does not run on inputs of shape \(1, 3, 2, 2\) alone: .* another --shape"
    with pytest.raises(ValueError, match=message):
        bounds(model, (2, 2))


def test_a_config_without_data_is_told():
    with pytest.raises(ValueError, match="no test_dataloader, which tells what to run on"):
        loader_of(Config(dict()))


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_missing_file_of_the_data_is_told_with_its_setting(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmaction")
    dataset = dict(type="VideoDataset", ann_file="clips.txt", pipeline=[])
    config = Config({f"{part}_dataloader": dict(dataset=dataset)})
    told = rf"'clips\.txt', which the config names in {part}_dataloader\.dataset\.ann_file$"
    with pytest.raises(FileNotFoundError, match=told):
        loader_of(config, part=part)


def test_an_image_costs_what_all_its_augmented_views_do(tmp_path):
    plain, flipped = scenes(tmp_path / "plain"), augmented(tmp_path / "flipped")
    one, both = (measured(build_model(config), config, 2) for config in (plain, flipped))
    assert both["samples"] == one["samples"] == 2
    assert both["dense_gmacs"] == pytest.approx(2 * one["dense_gmacs"])
    for name in ("full_gmacs", "full_gmacs_per_megapixel"):
        assert both[name]["avg"] == pytest.approx(2 * one[name]["avg"], rel=0.2)
    assert 0.4 < both["share"]["avg"] <= 1


def test_of_a_set_smaller_than_asked_for_all_samples_are_measured(tmp_path):
    config = scenes(tmp_path)
    model = build_model(config)
    assert [measured(model, config, n)["samples"] for n in (1, 2, 100)] == [1, 2, 2]


def test_the_dense_cost_of_images_of_several_sizes_is_told_as_a_mean_alone(capsys):
    spread = {"avg": 2.0, "min": 1.0, "max": 3.0}
    report = dict(dense_gmacs=4.0, paper_gmacs=spread, full_gmacs=spread, params_m=1.0)
    tool_of("get_flops").show(report)
    lines = capsys.readouterr().out.splitlines()
    dense, paper = (
        next(line for line in lines if name in line).split("│") for name in ("dense", "paper")
    )
    assert [cell.strip() for cell in dense[2:5]] == ["4.00", "", ""]
    assert [cell.strip() for cell in paper[2:5]] == ["2.00", "1.00", "3.00"]


@pytest.mark.parametrize(("side", "tells"), [(48, True), (32, False)])
def test_of_a_picture_that_is_predicted_by_windows_a_pass_over_all_is_told_as_one(
    tmp_path, monkeypatch, capsys, side, tells
):
    slide = dict(mode="slide", crop_size=(32, 32), stride=(16, 16))
    scenes(tmp_path, **{"model.test_cfg": slide}).dump(tmp_path / "net.py")
    told = ["get_flops.py", str(tmp_path / "net.py"), "--shape", str(side), str(side)]
    monkeypatch.setattr(sys, "argv", told)
    tool_of("get_flops").main()
    out = " ".join(capsys.readouterr().out.split())
    assert ("--shape 32 32 tells what a window takes" in out) == tells
    # The backbone of a network so small, in digits that tell something.
    assert re.search(r"dense, backbone: 0\.0[1-9]\d+ GMACs", out)


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


def test_each_convolution_is_at_its_own_least_where_search_spaces_differ():
    model = whole(SEG)
    before = bounds(model, (32, 32))["paper_gmacs"]["min"]
    make_dynamic(model.decode_head.convs, DynamicConfig(targets="0.conv", search_space=4))
    after = bounds(model, (32, 32))["paper_gmacs"]["min"]
    # Its filters at each of 4 x 4 pixels.
    dense = model.decode_head.convs[0].conv.weight.numel() * 16 / 1e9
    assert before - after == pytest.approx(dense * 7 / 8, rel=1e-6)


def test_a_weight_that_is_zero_costs_nothing_by_formula_and_is_computed():
    model = whole(SEG)
    before = bounds(model, (32, 32))
    weight = model.decode_head.convs[0].conv.weight
    with torch.no_grad():
        weight[:, 0] = 0
    after = bounds(model, (32, 32))
    # Each at 4 x 4 pixels.
    less = weight[:, 0].numel() * 16 / 1e9
    for end in ("min", "max"):
        change = before["paper_gmacs"][end] - after["paper_gmacs"][end]
        assert change == pytest.approx(less, rel=1e-6)
    assert after["full_gmacs"] == before["full_gmacs"]
    assert after["dense_gmacs"] == before["dense_gmacs"]


@pytest.mark.parametrize("name", ["ResNet3dCSN", "VaRedResNet3dCSN"])
def test_a_backbone_that_wants_to_be_told_its_weights_is_built_without(name):
    config = Config.fromfile(config_path("recognition/i3d_k400.py"))
    config.model.backbone = dict(type=name, depth=50, pretrained="https://nowhere/weights.pth")
    config.model.cls_head.in_channels = 2048
    assert build_model(config).backbone.depth == 50


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "the config has no model"),
    ({"model": dict(type="Nowhere")}, "cannot be built: .*Nowhere is not in the"),
    ({"model": dict(type="TRNHead")}, "cannot be built: .*num_classes"),
])  # fmt: skip
def test_a_config_without_a_model_that_can_be_built_is_told(settings, message):
    with pytest.raises(ValueError, match=message):
        build_model(Config(settings))
