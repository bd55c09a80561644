"""The paper's R(2+1)D-18 and CorrNet: cost and size are the figures printed in the paper."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.models.corrnet import CorrNet
from vared_mm.models.r2plus1d import R2Plus1d18, middle_channels


def giga_macs(backbone, frames, side):
    with torch.device("meta"):
        head, clip = nn.Linear(512, 200), torch.empty(1, 3, frames, side, side)
    with FlopCounterMode(display=False) as counter:
        head(backbone(clip).mean(dim=(2, 3, 4)))
    return counter.get_total_flops() / 2e9


@pytest.fixture(scope="module")
def full_size():
    with torch.device("meta"):
        return R2Plus1d18()


@pytest.mark.parametrize(("frames", "expected"), [(8, 27.54), (16, 55.08), (32, 110.16)])
def test_macs_are_those_that_identify_the_papers_network(full_size, frames, expected):
    assert round(giga_macs(full_size, frames, 128), 2) == expected


def test_it_has_33_28_million_parameters_with_a_head_of_200_classes(full_size):
    count = sum(p.numel() for p in full_size.parameters()) + 513 * 200
    assert round(count / 1e6, 2) == 33.28


def test_corrnet_counts_60_61_with_its_correlations():
    with torch.device("meta"):
        assert round(giga_macs(CorrNet(clip_len=16), 16, 128), 2) == 60.61


def test_middle_widths_by_hand(full_size):
    assert middle_channels(3, 64, 3, 7) == 83 == full_size.stem.spatial.conv.out_channels
    assert full_size.layer1[0].conv1.spatial.conv.out_channels == 144
    block = full_size.layer2[0]
    assert block.conv1.spatial.conv.out_channels == 3 * 9 * 64 * 128 // (9 * 64 + 3 * 128) == 230
    assert block.conv2.spatial.conv.out_channels == 288
    assert block.downsample.spatial.conv.out_channels == 64 * 128 // (64 + 128) == 42


@pytest.mark.parametrize(
    ("clip", "features"),
    [((2, 3, 16, 64, 96), (2, 512, 2, 4, 6)), ((1, 3, 9, 33, 32), (1, 512, 2, 3, 2))],
    ids=["even", "rounded up"],
)
def test_time_shrinks_by_8_and_space_by_16(full_size, clip, features):
    assert full_size(torch.empty(clip, device="meta")).shape == features


def test_several_stages_come_as_a_tuple():
    with torch.device("meta"):
        outputs = R2Plus1d18(out_indices=(2, 3))(torch.empty(1, 3, 8, 32, 32))
    assert [tuple(x.shape) for x in outputs] == [(1, 256, 2, 4, 4), (1, 512, 1, 2, 2)]


def test_a_quarter_of_the_channels_outside_the_factors():
    with torch.device("meta"):
        narrow = R2Plus1d18(base_channels=16)
    assert narrow.layer4[1].conv2.temporal.conv.out_channels == 128
    assert narrow.layer4[1].conv2.spatial.conv.out_channels == 288


def test_frozen_stages_are_not_trained_and_stay_in_evaluation():
    model = R2Plus1d18(base_channels=4, frozen_stages=2)
    assert model.train() is model
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}
    assert not model.layer2.training
    assert model.layer3.training


def test_norm_eval_keeps_the_statistics_and_trains_the_rest():
    model = R2Plus1d18(base_channels=4, norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm3d))
    assert model.layer4.training


@pytest.mark.parametrize("kind", [R2Plus1d18, CorrNet])
def test_checkpointing_changes_memory_and_not_the_gradient(kind):
    torch.manual_seed(0)
    size = dict(base_channels=4) | (dict(clip_len=8) if kind is CorrNet else {})
    plain, saving = kind(**size), kind(**size, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    clip = torch.randn(2, 3, 8, 32, 32)
    for model in (plain, saving):
        model(clip).square().mean().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_corrnet_loads_the_checkpoint_of_r2plus1d():
    keys = CorrNet(base_channels=4).load_state_dict(
        R2Plus1d18(base_channels=4).state_dict(), strict=False
    )
    assert not keys.unexpected_keys
    assert {key.split(".")[0][:-1] for key in keys.missing_keys} == {"correlation"}


def test_a_clip_of_another_length_than_the_filters_is_refused():
    with pytest.raises(ValueError, match="for 16 frames met 8: set clip_len"):
        CorrNet(base_channels=4)(torch.zeros(1, 3, 8, 16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(base_channels=0), "at least 1"),
        (dict(base_channels="few"), "at least 1"),
        (dict(out_indices=(4,)), r"some of \[0, 1, 2, 3\]"),
        (dict(frozen_stages=5), "0 to 4 freeze the stages"),
        (dict(type="CorrNet", base_channels=6), "multiple of 4"),
    ],
)
def test_what_does_not_exist_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type="R2Plus1d18") | settings)
