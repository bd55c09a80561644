"""A static network learns the generated scenes, and its dynamic form does it with less."""

import json
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import vared_mm  # noqa: F401
from vared_mm.datasets.scenes import ScenesConfig, make_scenes

FCN = Path(__file__).parent.parent / "configs" / "segmentation" / "fcn"
STATIC = FCN / "fcn_r18w16-d8_1xb8-300_scenes-96x96.py"
DYNAMIC = FCN / "vared-fcn_r18w16-d8_1xb8-200_scenes-96x96.py"
SET = ScenesConfig(train=200, val=40, size=64, most=4)
PARTS = ("train", "val", "test")


def runner_of(config, work_dir, scenes, iterations=None, **options):
    """A config's Runner on `scenes`, for fewer iterations."""
    config = Config.fromfile(config)
    config.work_dir = str(work_dir)
    config.log_level = "WARNING"
    for part in PARTS:
        config[f"{part}_dataloader"].dataset.data_root = str(scenes)
    if iterations is not None:
        config.train_cfg.update(max_iters=iterations, val_interval=iterations)
        config.param_scheduler = [dict(config.param_scheduler[-1], begin=0, end=iterations)]
        config.default_hooks.logger.interval = 1
        config.default_hooks.checkpoint.update(interval=iterations, save_best=None)
    config.merge_from_dict(options)
    # The toolbox names its visualizer, and runners of one process would share it.
    config.experiment_name = config.visualizer.name = uuid.uuid4().hex
    config.randomness = dict(seed=0)
    return Runner.from_cfg(config)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", SET)


@pytest.fixture(scope="module")
def static(scenes, tmp_path_factory):
    runner = runner_of(STATIC, tmp_path_factory.mktemp("static"), scenes, 100)
    runner.train()
    yield runner, runner.test()
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope="module")
def dynamic(static, scenes, tmp_path_factory):
    start = f"{static[0].work_dir}/iter_100.pth"
    work_dir = tmp_path_factory.mktemp("dynamic")
    runner = runner_of(DYNAMIC, work_dir, scenes, 40, load_from=start)
    runner.train()
    yield runner, runner.test()
    DefaultScope._instance_dict.clear()


def test_the_static_network_learns_the_scenes(static):
    # Ground alone, which is three quarters of the pixels, would be 15.
    assert static[1]["mIoU"] > 45
    assert static[1]["cost/share"] == 1


def test_its_dynamic_form_closes_gates_and_keeps_what_was_learned(static, dynamic):
    metrics = dynamic[1]
    assert metrics["cost/share"] < 0.95
    assert metrics["cost/full_gmacs"] < static[1]["cost/full_gmacs"]
    assert metrics["mIoU"] > 40


def test_every_step_adds_the_efficiency_loss_to_those_of_both_heads(dynamic):
    lines = Path(dynamic[0].log_dir, "vis_data", "scalars.json").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "mac_share" in row]
    assert len(rows) == 40
    first, last = rows[0], rows[-1]
    assert first["mac_share"] == 1.0
    assert first["loss_efficiency"] == 0.0  # the ramp begins
    assert last["mac_share"] < 0.95
    parts = ("decode.loss_ce", "aux.loss_ce", "loss_efficiency")
    assert last["loss"] == pytest.approx(sum(last[part] for part in parts), rel=1e-4)
    # At least half of the batch pays 2 · share² each, and at most all of it.
    bound = 2 * last["mac_share"] ** 2
    assert 0.3 * bound < last["loss_efficiency"] < 1.1 * bound


def test_the_cost_of_every_layer_lies_beside_the_accuracy(dynamic):
    runner, metrics = dynamic
    report = json.loads(Path(runner.log_dir, "cost.json").read_text())
    assert report["metrics"]["mIoU"] == pytest.approx(metrics["mIoU"])
    assert len(report["cost"]["layers"]) == 16
    per_pixel = metrics["cost/full_gmacs"] / 64**2 * 1e6
    assert metrics["cost/full_gmacs_per_megapixel"] == pytest.approx(per_pixel)


def test_mmsegmentation_s_inferencer_runs_config_and_checkpoint(dynamic, scenes, tmp_path):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    runner, _ = dynamic
    path, checkpoint = tmp_path / "config.py", f"{runner.work_dir}/iter_40.pth"
    runner.cfg.dump(path)
    files = sorted(map(str, (scenes / "val").glob("*.jpg")))[:8]
    truth = np.stack([cv2.imread(file.replace(".jpg", ".png"), 0) for file in files])
    inferencer = MMSegInferencer(str(path), str(checkpoint), device="cpu")
    answers = np.stack([inferencer(file)["predictions"] for file in files])
    assert answers.shape == truth.shape
    assert (answers == truth).mean() > 0.8
    assert inferencer.model.dataset_meta["classes"] == (
        "ground",
        "disc",
        "square",
        "triangle",
        "ring",
    )

    model = init_model(str(path), checkpoint, device="cpu")
    labels = inference_model(model, files[0]).pred_sem_seg.data[0].numpy()
    assert np.array_equal(labels, answers[0])


def tiny(tmp_path, **options):
    folder = make_scenes(tmp_path / "tiny", ScenesConfig(train=8, val=2, size=32))
    options["train_dataloader.batch_size"] = 2
    return folder, lambda: runner_of(
        DYNAMIC, tmp_path / "run", folder, 2, load_from=None, **options
    )


def test_a_model_of_other_classes_than_the_data_stops_before_the_first_step(tmp_path):
    wrong = {"model.decode_head.num_classes": 4, "model.auxiliary_head.num_classes": 4}
    _, run = tiny(tmp_path, **wrong)
    with pytest.raises(ValueError, match=r"has 5 classes, ground, .*set num_classes=5"):
        run().train()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_label_out_of_range_stops_with_the_file_s_name(tmp_path, split):
    folder, run = tiny(tmp_path)
    for path in (folder / split).glob("*.png"):
        labels = cv2.imread(str(path), 0)
        labels[:2, :3] = 77
        cv2.imwrite(str(path), labels)
    message = rf"{split}/000\d\.png has 6 pixels labelled 77; wanted 0 to 4"
    with pytest.raises(ValueError, match=message):
        run().train()


def test_grey_and_transparent_pictures_of_any_size_train_and_are_evaluated(tmp_path):
    folder, run = tiny(tmp_path, **{"val_dataloader.batch_size": 1})
    sizes = [(1, 1), (33, 17), (1, 9), (7, 1)]
    for i, path in enumerate(sorted(folder.rglob("*.jpg"))):
        picture = cv2.resize(cv2.imread(str(path)), sizes[i % 4][::-1])
        if i % 2:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(path), picture)
        labels = cv2.imread(str(path.with_suffix(".png")), 0)
        labels = cv2.resize(labels, sizes[i % 4][::-1], interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path.with_suffix(".png")), labels)
    runner = run()
    runner.train()
    assert runner.iter == 2
    assert runner.message_hub.get_scalar("val/cost/full_gmacs_min").current() > 0


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/train"):
        runner_of(STATIC, tmp_path, "nowhere", 2).train()
