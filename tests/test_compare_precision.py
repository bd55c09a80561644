"""What preparing in bfloat16 changes is told, and what cannot be prepared, before any test."""

from types import SimpleNamespace

import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.hub import get_config

import vared_mm  # noqa: F401
from vared_mm.flops import build_model


def test_costs_that_no_counter_sees_of_a_prepared_network_are_left_out():
    metrics = dict.fromkeys(
        ["mIoU", "cost/dense_gmacs", "cost/share", "cost/share_min", "cost/full_gmacs_max",
         "cost/full_gmacs_per_megapixel"], 1.0,
    )  # fmt: skip
    assert tool_of("compare_precision").comparable(metrics) == ["mIoU", "cost/share"]


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ([torch.zeros(3, 64, 64)], "a FasterRCNN does not run on .* wants boxes"),
        ([[torch.zeros(3, 64, 64)]] * 2, "augments each sample"),
    ],
    ids=["boxes", "augmentations"],
)
def test_what_does_not_run_on_inputs_alone_is_told_before_any_test(batch, told, monkeypatch):
    tool = tool_of("compare_precision")
    model = build_model(get_config("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"))
    loop = SimpleNamespace(dataloader=[{"inputs": batch}])
    runner = SimpleNamespace(model=model, test_loop=loop, test=lambda: pytest.fail("tested"))
    monkeypatch.setattr(tool.CheckedRunner, "from_cfg", lambda config: runner)
    with pytest.raises(ValueError, match=told):
        tool.compared(Config())
