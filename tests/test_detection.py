"""MMDetection's RetinaNet with a dynamic trunk: a step of training, a test with costs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.method.observe import dynamic_convs, record_cost

RETINANET = Path(__file__).parent.parent / "configs" / "detection" / "retinanet"
R18, R50 = (RETINANET / f"vared-retinanet_r{depth}_fpn_1x_coco.py" for depth in (18, 50))
SIZES = [(96, 128), (128, 72)]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Two pictures, one of them upright, with a bright rectangle each."""
    from mmdet.datasets import CocoDataset

    folder = tmp_path_factory.mktemp("coco")
    pictures, boxes = [], []
    for i, (height, width) in enumerate(SIZES):
        picture = np.random.default_rng(i).integers(0, 90, (height, width, 3), np.uint8)
        picture[20:60, 10:50] = (40, 200, 250)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        pictures.append(dict(id=i, file_name=f"{i}.png", height=height, width=width))
        boxes.append(
            dict(id=i, image_id=i, category_id=1, bbox=[10, 20, 40, 40], area=1600, iscrowd=0)
        )
    names = CocoDataset.METAINFO["classes"]
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
    content = dict(images=pictures, annotations=boxes, categories=categories)
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


def config_of(path, coco, work_dir):
    """The config on the two pictures, for one step of training."""
    config = Config.fromfile(path)
    config.work_dir, config.log_level = str(work_dir), "WARNING"
    config.model.backbone.init_cfg = None
    # Untrained scores lie around 0.01: some have to come as far as the suppression of doubles.
    config.model.test_cfg.update(score_thr=0.01, nms_pre=20)
    for part in ("train", "val", "test"):
        loader = config[f"{part}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f"{coco}/", ann_file="boxes.json", data_prefix=dict(img=""))
        for step in loader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = (128, 96)
    for part in ("val", "test"):
        config[f"{part}_evaluator"][0].ann_file = str(coco / "boxes.json")
    config.train_cfg.update(max_epochs=1)
    config.param_scheduler = []
    config.default_hooks.logger.interval = 1
    config.custom_hooks[0].ramp = 0.0
    return config


@pytest.fixture(scope="module")
def run(coco, tmp_path_factory):
    runner = Runner.from_cfg(config_of(R18, coco, tmp_path_factory.mktemp("work")))
    runner.train()
    return runner, runner.test()


def test_one_step_pays_for_what_the_trunk_computes(run):
    runner, _ = run
    assert runner.iter == 1
    scalars = runner.message_hub.log_scalars
    assert scalars["train/mac_share"].current() == 1.0
    assert scalars["train/loss_efficiency"].current() == pytest.approx(2.0)  # 2 · 1²
    parts = sum(
        scalars[f"train/{name}"].current() for name in ("loss_cls", "loss_bbox", "loss_efficiency")
    )
    assert scalars["train/loss"].current() == pytest.approx(parts, rel=1e-5)
    moved = [conv.gate.beta[0].item() for conv in dynamic_convs(runner.model).values()]
    assert all(beta < 0.8 for beta in moved)


def test_the_frozen_stage_stays_static(run):
    names = list(dynamic_convs(run[0].model))
    assert len(names) == 12
    assert not any("layer1" in name for name in names)


def test_two_pictures_are_tested_with_their_costs(run):
    runner, metrics = run
    assert "coco/bbox_mAP" in metrics
    model, totals = runner.model.eval(), []
    for batch in runner.test_dataloader:
        data = model.data_preprocessor(batch, False)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, record_cost(model):
            model(**data, mode="predict")
        totals.append(counter.get_total_flops() / 2e9)
    assert len(totals) == 2
    assert metrics["cost/full_gmacs"] == pytest.approx(sum(totals) / 2)
    assert metrics["cost/full_gmacs_max"] == pytest.approx(max(totals))


def test_the_cost_of_every_layer_is_written(run):
    report = json.loads(Path(run[0].log_dir, "cost.json").read_text())
    assert len(report["cost"]["layers"]) == 12
    assert report["metrics"]["coco/bbox_mAP"] == run[1]["coco/bbox_mAP"]


def test_a_resnet_50_trunk_is_the_same_network_as_the_static_one():
    init_default_scope("mmdet")
    config = Config.fromfile(R50)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model).eval()
    assert len(dynamic_convs(model)) == 3 * (4 + 6 + 3)
    config.model.backbone.update(type="ResNet")
    static = MODELS.build(config.model)
    missing, unexpected = model.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all(".gate." in key or ".cheap." in key for key in missing)
    with torch.no_grad(), record_cost(model) as record:
        scores, boxes = model(torch.randn(1, 3, 65, 71), mode="tensor")
    assert record.share(1).item() == 1.0
    assert len(scores) == len(boxes) == 5
