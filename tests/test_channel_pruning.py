"""Channels of least magnitude leave a network, and a config tells what is left of it."""

import copy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from vared_mm.flops import bounds, build_model
from vared_mm.method.flop_counter import counted_macs
from vared_mm.method.observe import dynamic_convs
from vared_mm.rivals.channel_pruning import widths_of, without_channels
from vared_mm.tensor_form import answer_of, input_of

pytest.importorskip("torch_pruning")
SMALL = Path(__file__).parents[1] / "configs" / "small"
SHAPE = (4, 32, 32)
BACKBONES = {
    "i3d": dict(type="InceptionI3d", width=1 / 16),
    "r2plus1d": dict(type="R2Plus1d18", base_channels=4),
    "x3d": dict(type="X3D", gamma_w=0.25, gamma_b=2.25, gamma_d=0.1),
}
HEADS = {"i3d": 64, "r2plus1d": 32, "x3d": 144}


def config_of(network):
    config = Config.fromfile(SMALL / f"{network}.py")
    config.model.backbone = BACKBONES[network]
    config.model.cls_head.in_channels = HEADS[network]
    return config


def network_of(network):
    torch.manual_seed(0)
    return build_model(config_of(network))


@pytest.mark.parametrize("network", BACKBONES)
def test_what_is_left_is_built_by_its_widths_and_answers_the_same(network):
    whole = network_of(network)
    x = input_of(whole, SHAPE)
    narrow, share = without_channels(whole, x, answer_of, 0.7, 2)
    kept, dense = (counted_macs(answer_of, model, x) for model in (narrow, whole))
    assert kept == pytest.approx(share * dense)
    # Of so narrow layers few channels are much.
    assert 0.45 < share <= 0.7
    widths = widths_of(narrow.backbone, whole.backbone)
    told = dict(type="NarrowedBackbone", backbone=BACKBONES[network], widths=widths)
    built = copy.deepcopy(narrow)
    built.backbone = MODELS.build(told)
    built.backbone.eval()  # MMAction2's X3D returns None.
    assert [*built.backbone.state_dict()] == [*whole.backbone.state_dict()]
    built.backbone.load_state_dict(narrow.backbone.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(answer_of(built, x), answer_of(narrow, x))
    assert str(built.backbone) == str(narrow.backbone)


def test_channels_of_least_magnitude_go():
    whole = network_of("r2plus1d")
    conv = whole.backbone.layer1[0].conv1.spatial.conv
    with torch.no_grad():
        conv.weight[1::2] *= 1e-3
        whole.backbone.layer1[0].conv1.spatial.bn.weight[1::2] *= 1e-3
        whole.backbone.layer1[0].conv1.temporal.conv.weight[:, 1::2] *= 1e-3
    narrow, _ = without_channels(whole, input_of(whole, SHAPE), answer_of, 0.97, 1)
    left = narrow.backbone.layer1[0].conv1.spatial.conv.weight
    assert len(left) <= 5
    assert left.flatten(1).norm(dim=1).min() > conv.weight[1::2].flatten(1).norm(dim=1).max()


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["prune_channels.py", *map(str, options)])
    tool_of("prune_channels").main()


@pytest.fixture
def trained(tmp_path):
    """A config and a checkpoint of its network."""
    config = config_of("r2plus1d")
    (tmp_path / "net.py").write_text(config.pretty_text)
    torch.save({"state_dict": build_model(config).state_dict()}, tmp_path / "net.pth")
    return tmp_path / "net.py", tmp_path / "net.pth"


def test_the_tool_writes_a_config_and_a_checkpoint_of_the_share(trained, tmp_path, monkeypatch):
    out = tmp_path / "out" / "narrow"
    run(monkeypatch, *trained, out, "--share", 0.5, "--shape", *SHAPE, "--round-to", 2)
    config = Config.fromfile(out / "pruned.py")
    assert config.load_from == str(out / "pruned.pth")
    model = build_model(config, config.load_from)
    dense = bounds(network_of("r2plus1d"), SHAPE)["dense_gmacs"]
    assert 0.4 < bounds(model, SHAPE)["dense_gmacs"] / dense <= 0.5
    # It becomes dynamic as any other.
    backbone = dict(type="VaRedBackbone", backbone=config.model.backbone,
                    dynamic=dict(targets=r"layer\d\.\d\.conv\d\.spatial\.conv"))  # fmt: skip
    assert len(dynamic_convs(MODELS.build(backbone))) == 16


@pytest.mark.parametrize(("config", "weights", "file"), [
    ("pruned.py", "net.pth", "pruned.py"), ("on.py", "net.pth", "pruned.py"),
    ("net.py", "pruned.pth", "pruned.pth"),
])  # fmt: skip
def test_a_second_pruning_keeps_what_it_prunes(
    trained, tmp_path, monkeypatch, config, weights, file
):
    for given in trained:
        shutil.copy(given, tmp_path / f"pruned{given.suffix}")
    (tmp_path / "on.py").write_text("_base_ = 'pruned.py'")
    with pytest.raises(SystemExit, match=rf"{file} would be replaced, which is given to be read"):
        run(
            monkeypatch,
            tmp_path / config,
            tmp_path / weights,
            tmp_path,
            "--share",
            0.5,
            "--shape",
            *SHAPE,
        )


def test_less_than_most_of_all_channels_leave_is_refused_with_the_least_there_is():
    whole = network_of("r2plus1d")
    with pytest.raises(ValueError, match=r"share=0.001 .* multiples of 4: the least is 0\.\d+;"):
        without_channels(whole, input_of(whole, SHAPE), answer_of, 0.001, 4)


def test_a_network_whose_channels_are_moved_by_hand_is_refused():
    config = Config.fromfile(SMALL / "i3d.py")
    backbone = dict(type="ResNetTSM", depth=18, num_segments=4, pretrained=None)
    config.model = dict(
        type="Recognizer2D",
        backbone=backbone,
        cls_head=dict(type="TSMHead", num_classes=3, in_channels=512, num_segments=4),
        data_preprocessor=dict(type="ActionDataPreprocessor", format_shape="NCHW"),
    )
    whole = build_model(config)
    with pytest.raises(ValueError, match="cannot follow how this network moves its channels, as a"):
        without_channels(whole, input_of(whole, SHAPE), answer_of, 0.6, 4)


@pytest.mark.parametrize("form", ["VaRed", "CGNet", "Ghost"])
def test_a_network_of_another_form_is_refused(form):
    config = config_of("r2plus1d")
    config.model.backbone.update(type=f"{form}R2Plus1d18", base_channels=16)
    kind = {"CGNet": "CG"}.get(form, form)
    with pytest.raises(ValueError, match=rf"backbone\..* is a {kind}Conv3d; prune the static"):
        tool_of("prune_channels").check(build_model(config))


def test_a_network_with_more_than_a_backbone_and_a_head_is_refused():
    names = ("data_preprocessor", "backbone", "neck", "cls_head")
    parts = {name: nn.Identity() for name in names}
    with pytest.raises(ValueError, match="has backbone, cls_head, neck; wanted a recogniser of"):
        tool_of("prune_channels").check(nn.ModuleDict(parts))


@pytest.mark.parametrize(("share", "message"), [
    ("0", "--share is 0.0; wanted a part of the MACs between 0 and 1"),
    ("1.5", "--share is 1.5; wanted"),
])  # fmt: skip
def test_a_share_that_is_none_is_refused(share, message, trained, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *trained, tmp_path / "out", "--share", share, "--shape", 4, 32, 32)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("widths", "message"), [
    ({"stem.spatial.conv": (12, 3)}, r"stem.spatial.conv=\(12, 3\), and its weight in R2Plus1d18"),
    ({"stem.spatial.conv": (0, 3)}, r"stem.spatial.conv=\(0, 3\), and its weight in"),
    ({"nowhere.conv": (2, 3)}, r"nowhere.conv=\(2, 3\), .* is not there; give the widths of this"),
])  # fmt: skip
def test_widths_of_another_network_are_refused(widths, message):
    init_default_scope("mmaction")
    told = dict(type="NarrowedBackbone", backbone=BACKBONES["r2plus1d"], widths=widths)
    with pytest.raises(ValueError, match=message):
        MODELS.build(told)
