"""A dynamic network as a static one of plain modules, and what of it is faster so."""

import copy

import pytest
import torch
from installed import imported
from mmengine.registry import MODELS
from prepared import lively
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.export.clips import Seen, network_of, sizes_read
from vared_mm.export.fitted_snapshot import snapshot_of
from vared_mm.export.fixed_conv import fixed
from vared_mm.export.nearest_plain import fitted
from vared_mm.export.paying import LayerTime, layer_times
from vared_mm.export.snapshot import followed, snapshot
from vared_mm.export.targets import TARGETS
from vared_mm.fast.same_answers import apart
from vared_mm.fast.static_twin import plain_conv, static_twin
from vared_mm.method import DynamicConfig, VaRedConv2d, VaRedConv3d, make_dynamic
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import dynamic_convs, forced_gates

FULL, LEAST = (0.9, 0, 0), (0, 0, 0.6)
ROWS = {
    "all full": (FULL, FULL), "all least": (LEAST, LEAST),
    "half the channels, a quarter of the frames": ((0, 0.5, 0), LEAST),
    "all channels by three paths": ((0.7, 0.2, 0.4), FULL),
    "the lower two of both": ((0, 0.7, 0.3), (0, 0.2, 0.8)),
    "first and last of both": ((0.3, 0, 0.9), (0.4, 0, 0.5)),
}  # fmt: skip
CONVS = {
    "3-D, stride 2 in time, bias": (VaRedConv3d, (6, 11, 3), dict(stride=(2, 1, 1), padding=1)),
    "3-D, no bias, dilated": (VaRedConv3d, (4, 8, 3), dict(dilation=(1, 2, 2), bias=False)),
    "3-D depthwise": (VaRedConv3d, (7, 7, 3), dict(padding="same", groups=7)),
    "2-D, stride 2": (VaRedConv2d, (6, 9, 3), dict(stride=2, padding=1)),
    "2-D, groups": (VaRedConv2d, (6, 15, 3), dict(padding="valid", groups=3)),
    "2-D, reflected": (VaRedConv2d, (3, 8, 3), dict(padding=1, padding_mode="reflect")),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("conv", CONVS)
@torch.no_grad()
def test_a_fixed_convolution_answers_as_the_dynamic_one_whose_gate_is_forced(conv, row):
    torch.manual_seed(0)
    kind, sizes, settings = CONVS[conv]
    dynamic = kind(*sizes, **settings, dynamic=dict(search_space=3)).eval()
    for phi in dynamic.cheap.parameters():
        nn.init.normal_(phi, std=0.5)
    x = torch.randn(2, sizes[0], *((7,) if dynamic.weight.ndim == 5 else ()), 8, 9)
    answer = [v for axis in ROWS[row][: len(dynamic.axes)] for v in axis]
    plain = fixed(dynamic, answer, x.shape)
    with forced_gates(nn.Sequential(dynamic), answer):
        expected = dynamic(x)
    assert apart(plain(x), expected) < 1e-5
    assert not any(isinstance(m, _Dynamic) for m in plain.modules())


def tiny(kind="3d"):
    """Two dynamic convolutions, norms after them and after a plain one, a linear head."""
    torch.manual_seed(0)
    conv, norm = (nn.Conv3d, nn.BatchNorm3d) if kind == "3d" else (nn.Conv2d, nn.BatchNorm2d)
    model = nn.Sequential(
        conv(3, 8, 3, padding=1), norm(8), nn.ReLU(),
        conv(8, 10, 3, 1, 1), norm(10), nn.ReLU(),
        conv(10, 8, 3, 2, 1, bias=False), norm(8), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1) if kind == "3d" else nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    make_dynamic(model, DynamicConfig(targets="[36]"))
    x = torch.randn(4, 3, *((6,) if kind == "3d" else ()), 9, 10)
    return lively(model, x), x


def sizes_of(model, x):
    with sizes_read(model) as sizes:
        model(x[:1])
    return sizes


MIXED = {"3": (0, 0.5, 0.7, 0), "6": (0.6, 0.1, 0, 0.9)}


def rows_for(model, end):
    """The same for all, or what MIXED says."""
    axis = {"full": (0.8, 0), "least": (0, 0.7)}
    own = dynamic_convs(model)
    rows = MIXED if end == "mixed" else dict.fromkeys(own, axis[end] * 2)
    return {name: rows[name][: 2 * len(conv.axes)] for name, conv in own.items()}


@pytest.mark.parametrize(
    ("to", "kind", "end"),
    [(to, "3d", end) for to in TARGETS for end in ("full", "least", "mixed")]
    + [(to, "2d", "mixed") for to in TARGETS],
)
@torch.no_grad()
def test_the_file_answers_as_the_frozen_network_for_any_batch(to, kind, end, tmp_path):
    for package in {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["openvino"]}.get(to, []):
        imported(package)
    model, x = tiny(kind)
    rows, file = rows_for(model, end), tmp_path / f"net{TARGETS[to].suffix}"
    plain = snapshot(model, rows, sizes_of(model, x))
    TARGETS[to].write(plain, x[:2], file)
    run = TARGETS[to].load(file)
    with forced_gates(model, rows):
        expected = model(x)
    tolerance = 1e-4 if TARGETS[to].precision() == torch.float32 else 0.1
    assert apart(run(x), expected) < tolerance
    assert apart(run(x[:1]), expected[:1]) < tolerance


def test_norms_are_folded_where_nothing_is_rebuilt_and_the_model_is_as_it_was():
    model, x = tiny()
    before = copy.deepcopy(model.state_dict())
    assert {name: (one.norm, one.relu) for name, one in followed(model).items()} == {
        "0": ("1", True), "3": ("4", True), "6": ("7", True)
    }  # fmt: skip
    plain = snapshot(model, {"3": (1, 0, 1, 0), "6": (0, 1, 0, 1)}, sizes_of(model, x))
    kinds = [type(plain[i]).__name__ for i in (0, 1, 3, 4, 6, 7)]
    assert kinds == ["Conv3d", "Identity", "Conv3d", "Identity", "FixedConv", "BatchNorm3d"]
    # Four of eight filters, every second of the three frames that stride 2 leaves.
    assert plain[6].prefix.weight.shape[0] == 4
    assert plain[6].prefix.stride == (4, 2, 2)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "settings",
    [
        dict(type="VaRedR2Plus1d18", base_channels=6),
        dict(type="VaRedX3D", gamma_w=1, gamma_b=1, gamma_d=1),
        dict(type="VaRedResNetV1c", depth=18, stem_channels=8, base_channels=8),
    ],
    ids=lambda settings: settings["type"],
)
@torch.no_grad()
def test_snapshots_of_our_backbones_are_exported_by_torch(settings, tmp_path):
    torch.manual_seed(0)
    size = (3, 33, 40) if "ResNet" in settings["type"] else (3, 8, 33, 40)
    x = torch.randn(2, *size)
    model = lively(MODELS.build(copy.deepcopy(settings)), x)
    network, sizes = network_of(model), sizes_of(model, x)
    rows = {
        name: ((0, 0.7) if i % 2 else (0.6, 0.3)) * len(conv.axes)
        for i, (name, conv) in enumerate(dynamic_convs(model).items())
    }
    plain = network_of(snapshot(model, rows, sizes))
    file = tmp_path / "net.pt2"
    TARGETS["torch"].write(plain, x, file)
    with forced_gates(model, rows):
        assert apart(TARGETS["torch"].load(file)(x), network(x)) < 1e-4
    static = snapshot(model, {n: plain_conv(m) for n, m in dynamic_convs(model).items()}, sizes)
    assert apart(network_of(static)(x), network_of(static_twin(model))(x)) < 1e-4


@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
@torch.no_grad()
def test_the_nearest_plain_convolution_takes_up_what_a_mixture_of_filters_can(groups):
    torch.manual_seed(0)
    conv = VaRedConv2d(4, 4, 3, padding=1, groups=groups, dynamic=dict(cheap_kernel=1)).eval()
    nn.init.constant_(conv.cheap.channel[0], 0.5)
    model, answer, clips = nn.Sequential(conv), (0.3, 0.4), torch.randn(20, 4, 9, 9)
    with forced_gates(model, answer), fitted(model, {"0"}) as fits:
        wanted = [model(x) for x in clips.split(4)]
    near = fits["0"].nearest()
    # Φ of one tap is a mixture of filters, which those of other groups are not there for.
    left = ((near(clips) - torch.cat(wanted)).square().mean() / torch.cat(wanted).var()).item()
    assert left < 1e-6 if groups == 1 else 0.01 < left < 0.5


@torch.no_grad()
def test_layers_that_rebuild_are_timed_and_the_others_are_not():
    model, x = tiny()
    rows = {"3": (1, 0, 1, 0), "6": (0, 1, 0, 1)}
    (layer,) = layer_times(model, rows, sizes_of(model, x), TARGETS["torch"], 3)
    assert layer.name == "6"
    assert 0 < layer.full_ms < 1000
    assert 0 < layer.chosen_ms < 1000
    assert LayerTime("a", 2.0, 1.9).pays
    assert not LayerTime("a", 2.0, 2.0).pays


@torch.no_grad()
def test_layers_that_do_not_pay_compute_all_and_answer_nearly_the_same():
    model, x = tiny()
    rows = rows_for(model, "least")
    seen = Seen(clips=list(x.split(1)), sizes=sizes_of(model, x))
    kept = snapshot_of(model, rows, ["3"], seen)
    assert kept.kept == ("6",)
    assert type(kept.network.model[3]) is nn.Conv3d
    with forced_gates(model, rows):
        expected = model(x)
    twin = static_twin(model)(x)
    assert apart(kept.network(x), expected) < 0.5 * apart(twin, expected)
    full = snapshot_of(model, rows, ["3", "6"], seen)
    assert full.rows is None
    assert apart(full.network(x), model(x)) < 0.5 * apart(twin, model(x))
