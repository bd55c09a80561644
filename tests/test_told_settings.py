"""Settings that no shape tells stand in checkpoints, and a model of others refuses them."""

import pytest
import torch
from torch import nn

from vared_mm.method import DynamicConfig, DynamicError, make_dynamic
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet


def dynamic(**settings):
    return made(lambda net: make_dynamic(net, DynamicConfig(**settings)))


def gated(**settings):
    return made(lambda net: make_cgnet(net, CGNetConfig(**settings)))


def made(change):
    net = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1))
    change(net)
    return net


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (dynamic(), dynamic(normalised=True), "normalised=True, and the model has .*=False"),
        (gated(partitions=2), gated(partitions=4), "partitions=4, and the model has partitions=2"),
    ],
    ids=["normalised", "partitions"],
)
def test_a_checkpoint_of_another_setting_is_refused_and_one_that_tells_none_is_read(
    tmp_path, ours, theirs, told
):
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    with pytest.raises(DynamicError, match=rf"0 of the checkpoint was trained with {told}"):
        ours.load_state_dict(state, strict=False)
    own = ours.state_dict()
    assert ours.load_state_dict(own).missing_keys == []
    # As checkpoints of former versions, and those that hold weights alone.
    assert ours.load_state_dict(dict(state)).missing_keys == []
    assert list(own) == list(state)
