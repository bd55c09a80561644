"""The paper's I3D: its cost and size are the figures printed in the paper."""

import re

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.models.inception_i3d import INCEPTION_BLOCKS, InceptionI3d


def giga_macs(frames: int, side: int, classes: int = 200) -> float:
    with torch.device("meta"):
        backbone, head = InceptionI3d(), nn.Linear(1024, classes)
        clip = torch.empty(1, 3, frames, side, side)
    with FlopCounterMode(display=False) as counter:
        head(backbone(clip).mean(dim=(2, 3, 4)))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("frames", "side", "expected"), [(16, 256, 55.93), (32, 256, 111.86), (16, 224, 42.82)]
)
def test_macs_are_those_that_identify_the_papers_i3d(frames, side, expected):
    assert round(giga_macs(frames, side), 2) == expected


def test_it_has_12_49_million_parameters_with_a_head_of_200_classes():
    with torch.device("meta"):
        model = nn.Sequential(InceptionI3d(), nn.Linear(1024, 200))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 12.49


@pytest.mark.parametrize(
    ("clip", "features"),
    [
        ((2, 3, 16, 64, 96), (2, 1024, 2, 2, 3)),
        ((1, 3, 8, 33, 32), (1, 1024, 1, 2, 1)),
    ],
    ids=["even", "rounded up"],
)
def test_time_shrinks_by_8_and_space_by_32(clip, features):
    with torch.device("meta"):
        assert InceptionI3d()(torch.empty(clip)).shape == features


def test_a_quarter_of_the_width_gives_a_quarter_of_every_channel_count():
    with torch.device("meta"):
        full, narrow = InceptionI3d(), InceptionI3d(width=0.25)
    pairs = zip(full.modules(), narrow.modules(), strict=True)
    counts = [(a.out_channels, b.out_channels) for a, b in pairs if isinstance(a, nn.Conv3d)]
    assert len(counts) == 57
    assert all(wide == 4 * slim for wide, slim in counts)
    assert narrow.out_channels == 256


def test_the_documented_pattern_matches_the_54_convolutions_of_the_nine_blocks():
    with torch.device("meta"):
        model = InceptionI3d(width=0.125)
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv3d)]
    inside = [name for name in convs if re.search(r"^mixed_.*\.conv$", name)]
    assert len(inside) == 6 * len(INCEPTION_BLOCKS) == 54
    assert set(convs) - set(inside) == {"conv1a_7x7.conv", "conv2b_1x1.conv", "conv2c_3x3.conv"}


def test_the_root_registry_builds_it_with_the_users_convolution_and_norm():
    cfg = {
        "type": "InceptionI3d",
        "width": 0.125,
        "conv_cfg": {"type": "Conv3d", "padding_mode": "circular"},
        "norm_cfg": {"type": "GN", "num_groups": 1},
        "act_cfg": {"type": "LeakyReLU"},
    }
    with torch.device("meta"):
        model = MODELS.build(cfg)
    unit = model.mixed_3b.branch_1[1]
    assert unit.conv.padding_mode == "circular"
    assert isinstance(unit.norm, nn.GroupNorm)
    assert isinstance(unit.activate, nn.LeakyReLU)


def test_frozen_stages_are_not_trained_and_stay_in_evaluation():
    model = InceptionI3d(width=0.125, frozen_stages=2)
    assert model.train() is model
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name in INCEPTION_BLOCKS if name[6] in "45"}
    assert not model.mixed_3c.training
    assert model.mixed_4b.training


def test_norm_eval_keeps_the_statistics_and_trains_the_rest():
    model = InceptionI3d(width=0.125, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == 57
    assert not any(norm.training for norm in norms)
    assert model.mixed_5c.training


def test_checkpointing_changes_memory_and_not_the_gradient():
    torch.manual_seed(0)
    plain = InceptionI3d(width=0.125)
    saving = InceptionI3d(width=0.125, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    clip = torch.randn(2, 3, 8, 32, 32)
    for model in (plain, saving):
        model(clip).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("width", [1 / 32, 0.09375, 0.171875, 0.203125])
def test_widths_between_round_the_branches_and_keep_the_sum(width):
    model = InceptionI3d(width=width)
    sums = {name: getattr(model, name).out_channels for name in INCEPTION_BLOCKS}
    whole = {n: p + c1 + c2 + q for n, (p, (_, c1), (_, c2), q) in INCEPTION_BLOCKS.items()}
    assert sums == {name: round(channels * width) for name, channels in whole.items()}
    assert model.out_channels == 1024 * width
    assert all(m.out_channels >= 1 for m in model.modules() if isinstance(m, nn.Conv3d))


@pytest.mark.parametrize("width", [0, -1.0, 0.3, 1.05, 1 / 64, "half"])
def test_a_width_that_splits_a_channel_is_refused(width):
    with pytest.raises(ValueError, match="multiple of 1/64 from 1/32 on"):
        InceptionI3d(width=width)


@pytest.mark.parametrize("stage", [-2, 5, "all"])
def test_a_stage_that_does_not_exist_cannot_be_frozen(stage):
    with pytest.raises(ValueError, match="0 to 4 freeze the stages"):
        InceptionI3d(frozen_stages=stage)
