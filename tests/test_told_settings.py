"""Settings that no shape tells stand in checkpoints, and a model of others refuses them."""

import pytest
import torch
from mmengine.model import PretrainedInit
from torch import nn

from vared_mm.method import DynamicConfig, DynamicError, make_dynamic
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet
from vared_mm.weights import put_into


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


def test_a_part_of_a_checkpoint_tells_its_settings_too(tmp_path):
    """As a trunk that was trained for recognition comes into a detector."""
    theirs = nn.ModuleDict({"backbone": dynamic(normalised=True)})
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "net.pth")
    load = PretrainedInit(str(tmp_path / "net.pth"), prefix="backbone.")
    with pytest.raises(DynamicError, match="0 of the checkpoint was trained with normalised=True"):
        load(dynamic())
    same = dynamic(normalised=True)
    load(same)
    assert torch.equal(same[0].weight, theirs["backbone"][0].weight)


def test_names_of_a_model_in_a_wrapper_tell_them_too():
    theirs = nn.ModuleDict({"module": dynamic(normalised=True)})
    with pytest.raises(SystemExit, match="trained with normalised=True"):
        put_into(dynamic(), {"state_dict": theirs.state_dict()}, "net.pth")
