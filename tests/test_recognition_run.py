"""A recognition config trains and tests on videos, and MMAction2's own functions run it."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmaction.evaluation import AccMetric
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.engine.scores import average_views, one_score_a_class
from vared_mm.flops import build_model
from vared_mm.infer.recognition import infer
from vared_mm.runners import CheckedRunner

RECOGNITION = Path(__file__).parent.parent / "configs" / "recognition"
NARROW = "vared-r2plus1d_r18_8xb12-8x8x1-120e_mini-kinetics200-rgb.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The config, its metrics and its last checkpoint after one step on two clips."""
    folder = tmp_path_factory.mktemp("run")
    make_motion_clips(
        folder / "clips", MotionClipsConfig(clips_per_class=1, val_clips_per_class=1, frames=20)
    )
    for part in ("train", "val"):
        lines = (folder / "clips" / f"{part}.txt").read_text().splitlines()[:2]
        (folder / f"{part}.txt").write_text("\n".join(lines))
    config = Config.fromfile(RECOGNITION / "r2plus1d" / NARROW)
    config.work_dir = str(folder / "work")
    config.model.backbone.base_channels = 4
    config.model.cls_head.in_channels = 32
    config.train_cfg.max_epochs = 1
    for part in ("train", "val", "test"):
        loader = config[f"{part}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False, batch_size=min(loader.batch_size, 2))
        data = loader.dataset.get("dataset", loader.dataset)
        data.ann_file = str(folder / f"{part.replace('test', 'val')}.txt")
        data.data_prefix = dict(video=str(folder / "clips"))
    runner = Runner.from_cfg(config)
    runner.train()
    metrics = runner.test()
    yield config, metrics, Path(config.work_dir, "epoch_1.pth"), runner.log_dir
    DefaultScope._instance_dict.clear()


def test_one_test_tells_clip_and_video_accuracy_and_the_cost(run):
    _, metrics, _, log_dir = run
    assert {"acc/clip1", "acc/video1", "acc/video5"} < set(metrics)
    assert metrics["cost/dense_gmacs"] == pytest.approx(metrics["cost/paper_gmacs"])
    report = json.loads(Path(log_dir, "cost.json").read_text())
    assert len(report["cost"]["layers"]) == 16


def test_mmaction2_s_inferencers_run_config_and_checkpoint_on_a_video(run):
    from mmaction.apis import inference_recognizer, init_recognizer
    from mmaction.apis.inferencers import ActionRecogInferencer

    config, _, checkpoint, _ = run
    prefix = config.test_dataloader.dataset.dataset.data_prefix.video
    video = next(str(path) for path in Path(prefix).rglob("*.mp4"))
    model = init_recognizer(config, str(checkpoint), device="cpu")
    sample = inference_recognizer(model, video)
    assert sample.pred_score.shape == (200,)
    assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-4)

    path = Path(config.work_dir, "config.py")
    config.dump(path)
    answer = ActionRecogInferencer(str(path), str(checkpoint), device="cpu")(video)
    (prediction,) = answer["predictions"]
    assert prediction["pred_scores"] == pytest.approx(sample.pred_score.tolist(), abs=1e-5)


def test_infer_tells_label_score_and_macs_of_each_clip_of_a_video(run):
    from mmaction.apis import inference_recognizer, init_recognizer

    config, metrics, checkpoint, _ = run
    folder = Path(config.test_dataloader.dataset.dataset.data_prefix.video)
    names = [line.split()[0] for line in (folder.parent / "val.txt").read_text().splitlines()]
    videos = [folder / name for name in names]
    rows = infer(build_model(config, str(checkpoint)), config, videos)

    # 10 clips of 3 crops; MMAction2's own function says the same of the whole video.
    assert [len(row["clips"]) for row in rows] == [30, 30]
    theirs = init_recognizer(config, str(checkpoint), device="cpu")
    for row, video in zip(rows, videos, strict=True):
        scores = inference_recognizer(theirs, str(video)).pred_score
        assert row["label"] == scores.argmax().item()
        assert row["score"] == pytest.approx(scores.max().item(), abs=1e-5)
    mean = sum(row["gmacs"] for row in rows) / len(rows)
    assert mean == pytest.approx(metrics["cost/full_gmacs"], rel=1e-6)


def test_infer_takes_a_head_that_does_not_average_and_a_test_set_beside_another(run, tmp_path):
    config, _, checkpoint, _ = run
    model = build_model(config, str(checkpoint))
    name = next(Path(config.test_dataloader.dataset.dataset.data_prefix.video).rglob("*.mp4"))
    video = tmp_path / "[a] 22:57.mp4"
    video.write_bytes(name.read_bytes())
    wanted = infer(model, config, [video])
    changed = config.copy()
    both = [config.test_dataloader.dataset] * 2
    changed.test_dataloader = dict(dataset=dict(type="ConcatDataset", datasets=both))
    model.cls_head.average_clips = None
    (row,) = infer(model, changed, [video])
    assert row["label"] == wanted[0]["label"]
    assert row["score"] == pytest.approx(wanted[0]["score"], abs=1e-5)


def test_infer_tells_probabilities_of_a_head_that_averages_before_the_softmax(run):
    config, _, checkpoint, _ = run
    model = build_model(config, str(checkpoint))
    model.cls_head.fc_cls.weight.data *= 100
    model.cls_head.average_clips = "score"
    video = next(Path(config.test_dataloader.dataset.dataset.data_prefix.video).rglob("*.mp4"))
    (row,) = infer(model, config, [video])
    heads = {clip["label"]: clip["score"] for clip in row["clips"]}
    model.cls_head.average_clips = "prob"
    (wanted,) = infer(model, config, [video])
    assert heads == pytest.approx({clip["label"]: clip["score"] for clip in wanted["clips"]})
    assert row["score"] == pytest.approx(wanted["score"], abs=1e-5)


def test_a_head_that_does_not_average_is_tested_by_the_mean_of_its_views(run):
    config, metrics, checkpoint, _ = run
    config = config.copy()
    config.merge_from_dict({"model.cls_head.average_clips": None, "load_from": str(checkpoint)})
    config.test_evaluator = [dict(type="AccMetric")]
    config.custom_hooks = []
    assert CheckedRunner.from_cfg(config).test()["acc/top1"] == metrics["acc/video1"]


def test_infer_reads_videos_where_the_test_set_is_of_frame_folders(run):
    config, _, checkpoint, _ = run
    model = build_model(config, str(checkpoint))
    prefix = Path(config.test_dataloader.dataset.dataset.data_prefix.video)
    video = next(prefix.rglob("*.mp4"))
    wanted = infer(model, config, [video])
    config = copy.deepcopy(config)
    steps = config.test_dataloader.dataset.pipeline
    assert [steps[0].type, steps[2].type] == ["DecordInit", "DecordDecode"]
    steps[2] = dict(type="RawFrameDecode")
    del steps[0]
    video_row, folder_row = infer(model, config, [video, prefix])
    assert [video_row] == wanted
    assert folder_row["error"] == "is a folder; wanted a video"


def test_infer_reads_a_video_without_a_suffix_by_its_own_name(run, tmp_path):
    config, _, checkpoint, _ = run
    model = build_model(config, str(checkpoint))
    video = next(Path(config.test_dataloader.dataset.dataset.data_prefix.video).rglob("*.mp4"))
    (tmp_path / "clip").write_bytes(video.read_bytes())
    (tmp_path / "folder").mkdir()
    wanted, row, no_video = infer(model, config, [video, tmp_path / "clip", tmp_path / "folder"])
    assert row == {**wanted, "file": str(tmp_path / "clip")}
    assert no_video["error"] == "is a folder; wanted a video"


def test_infer_tells_no_label_where_scores_are_no_numbers(run, tmp_path):
    config, _, checkpoint, _ = run
    model = build_model(config, str(checkpoint))
    with torch.no_grad():
        model.cls_head.fc_cls.bias[3] = torch.nan
    video = next(Path(config.test_dataloader.dataset.dataset.data_prefix.video).rglob("*.mp4"))
    (tmp_path / "half.mp4").write_bytes(video.read_bytes()[:500])
    first, second = infer(model, config, [video, tmp_path / "half.mp4"])
    assert set(first) == set(second) == {"file", "error"}
    assert "not all finite numbers" in first["error"]
    assert "\n" not in second["error"]


def test_infer_goes_on_after_a_video_that_cannot_be_read(run):
    config, _, checkpoint, _ = run
    (row,) = infer(build_model(config, str(checkpoint)), config, [Path("nowhere.mp4")])
    assert row == {"file": "nowhere.mp4", "error": "does not exist"}


@pytest.mark.parametrize(("several", "wanted"), [(False, [0.25] * 4), (True, [0.5] * 4)])
def test_classes_that_do_not_exclude_each_other_have_a_probability_each(several, wanted):
    model = nn.Module()
    model.cls_head = nn.Module()
    model.cls_head.multi_class, model.cls_head.average_clips = several, None
    assert one_score_a_class(torch.zeros(4), model).tolist() == wanted
    assert one_score_a_class(torch.zeros(3, 4), model).tolist() == wanted
    average_views(model, [AccMetric()])
    assert model.cls_head.average_clips == ("score" if several else "prob")
