"""A clip detector overfits, is tested, told what it costs and draws; AVA's way works too."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from vared_mm.compat import config_path
from vared_mm.datasets.key_frame_clips import key_frame_pipelines
from vared_mm.datasets.motion_clips import render_clip, write_video
from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes
from vared_mm.flops import bounds, build_model
from vared_mm.infer.localization import KeyFrame, clips_around, infer, linked
from vared_mm.metrics.average_precision import box_iou
from vared_mm.metrics.tubes import LinkConfig

CLASSES = ("move_left", "move_right", "grow", "still")
FRAMES, SIDE, STEPS = 8, 64, 60


def small(folder, dynamic=False, **settings):
    """The config of the generated tubes at an eighth of its width: 8 key frames of 4 clips, all
    in each batch and as they are."""
    name = f"{'vared-' * dynamic}yowo-i3d_w25_motion_tubes.py"
    config = Config.fromfile(config_path(f"localization/motion_tubes/{name}"))
    config.model.pop("init_cfg", None)
    _, pipeline = key_frame_pipelines(clip_len=FRAMES, size=SIDE)
    # The running statistics follow at once: what is trained is what is tested.
    norm = dict(momentum=0.5, eps=1e-3)
    config.model.backbone.update(width=0.125, norm_cfg=dict(type="BN3d", **norm))
    config.model.backbone_2d.update(width=0.125, norm_cfg=dict(type="BN", **norm), out_channels=64)
    config.model.fusion.update(
        in_channels=192, channels=128, dropout=0.0, norm_cfg=dict(type="BN", **norm)
    )
    config.model.bbox_head.update(
        loss=None, num_classes=4, in_channels=128, anchors=[(0.7, 0.7), (1, 1), (1.4, 1.4)]
    )
    for part in ("train", "val", "test"):
        loader = config[f"{part}_dataloader"]
        loader.update(batch_size=8, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(folder / "tubes"), every=4, pipeline=pipeline)
    config.work_dir = str(folder / "work")
    config.optim_wrapper.optimizer = dict(type="Adam", lr=3e-3, weight_decay=5e-4)
    config.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=STEPS, val_interval=STEPS)
    config.param_scheduler = [dict(type="CosineAnnealingLR", T_max=STEPS)]
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.interval = STEPS
    config.randomness = dict(seed=0)
    config.merge_from_dict(settings)
    return config


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folder, metrics and checkpoint of a static detector that was fitted to four clips."""
    folder = tmp_path_factory.mktemp("run")
    tubes = MotionTubesConfig(CLASSES, 1, 0, frames=FRAMES, size=SIDE)
    make_motion_tubes(folder / "tubes", tubes)
    runner = Runner.from_cfg(small(folder))
    runner.train()
    metrics = runner.test()
    yield folder, metrics, folder / "work" / f"epoch_{STEPS}.pth"
    DefaultScope._instance_dict.clear()


def test_it_fits_four_clips_and_tells_them_apart(fitted):
    _, metrics, _ = fitted
    names = ("recall", "classif", "frame_mAP@0.5", "video_mAP@0.2", "video_mAP@0.5")
    assert {name: metrics[f"jhmdb/{name}"] for name in names} == dict.fromkeys(names, 1)
    assert metrics["jhmdb/frame_AP@0.5/grow"] == 1
    assert metrics["cost/share"] == 1


def test_the_dynamic_form_goes_on_from_it_and_right_key_frames_pay(fitted):
    folder, _, checkpoint = fitted
    config = small(
        folder, dynamic=True, load_from=str(checkpoint), work_dir=str(folder / "dynamic")
    )
    config.train_cfg.max_epochs = config.train_cfg.val_interval = 3
    hooks = {hook.type: hook for hook in config.custom_hooks}
    hooks["EfficiencyLossHook"].update(ramp=0.0, weight=1.0, target=0.0)
    runner = Runner.from_cfg(config)
    runner.train()
    lines = Path(runner.log_dir, "vis_data/scalars.json").read_text().splitlines()
    first, *_ = [row for row in map(json.loads, lines) if "loss_box" in row]
    # Of 8 key frames those that are found with their class pay 1, as everything is computed.
    assert first["mac_share"] == 1
    assert first["loss_efficiency"] == pytest.approx(round(8 * first["loss_efficiency"]) / 8)
    metrics = runner.test()
    assert metrics["cost/dense_gmacs"] == pytest.approx(
        bounds(build_model(config), (FRAMES, SIDE, SIDE))["dense_gmacs"]
    )
    assert {"cost/full_gmacs_min", "cost/full_gmacs_max"} < set(metrics)


def test_the_2d_network_is_counted_apart(fitted):
    folder, _, _ = fitted
    parts = bounds(build_model(small(folder)), (FRAMES, SIDE, SIDE))["parts_gmacs"]
    assert set(parts) == {"backbone", "backbone_2d", "fusion", "bbox_head"}


def test_tubes_are_told_and_drawn_for_a_video_of_another_size_and_length(fitted, tmp_path):
    folder, _, checkpoint = fitted
    # A clip of the set (seed, part, label, index), larger; an odd number of frames and pixels.
    clip, boxes = render_clip("move_right", [0, 0, 1, 0], FRAMES, SIDE)
    scale = np.array([2.0, 1.5] * 2)
    large = np.stack([cv2.resize(frame, (128, 96)) for frame in clip])
    write_video(tmp_path / "walk.mp4", np.concatenate([large, large[-1:]]))
    (tmp_path / "broken.mp4").write_text("no video")
    content = (tmp_path / "walk.mp4").read_bytes()
    start, end = (content.find(b"mdat") + content.find(b"moov")) // 2, content.find(b"moov") - 4
    (tmp_path / "half.mp4").write_bytes(content[:start] + bytes(end - start) + content[end:])
    config = small(folder)
    model = build_model(config, str(checkpoint))
    files = [tmp_path / f"{name}.mp4" for name in ("walk", "broken", "half")]
    row, fault, half = infer(model, config, files, tmp_path / "out")
    assert "broken.mp4 is no picture or video that OpenCV" in fault["error"]
    assert "of 9 frames can be decoded" in half["error"]
    best = row["tubes"][0]
    assert (best["label"], best["name"], best["frames"]) == (1, "move_right", list(range(1, 10)))
    overlaps = box_iou(np.array(best["boxes"][:FRAMES]), boxes * scale)
    assert overlaps.mean() > 0.5
    assert [key["frame"] for key in row["key_frames"]] == [1, 5, 9]
    wanted = bounds(model, (FRAMES, SIDE, SIDE))["dense_gmacs"]
    assert [key["gmacs"] for key in row["key_frames"]] == pytest.approx([wanted] * 3)
    assert json.loads(json.dumps(row)) == row
    video = cv2.VideoCapture(row["drawing"])
    drawn = []
    while (read := video.read())[0]:
        drawn.append(read[1])
    assert len(drawn) == 9
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["walk_actions.mp4"]


def test_the_command_line_names_the_classes_as_it_is_told(fitted, tmp_path, monkeypatch):
    folder, _, checkpoint = fitted
    small(folder).dump(tmp_path / "config.py")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((47, 33, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    options = dict(config="config.py", classes="classes.txt", json="rows.json", out="drawn")
    told = [f"--{name}={tmp_path / file}" for name, file in options.items()]
    monkeypatch.setattr(
        sys, "argv", ["infer.py", str(tmp_path / "a.png"), f"--checkpoint={checkpoint}", *told]
    )
    runpy.run_path(str(Path(__file__).parents[1] / "tools/infer.py"), run_name="__main__")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert {tube["name"] for tube in row["tubes"]} <= set("abcd")
    assert row["tubes"]
    assert cv2.imread(row["drawing"]).shape[0] % 2 == 0


def test_a_test_set_within_another_serves_and_steps_have_scopes(fitted, tmp_path):
    folder, _, checkpoint = fitted
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((47, 33, 3), np.uint8))
    config = small(folder)
    model = build_model(config, str(checkpoint))
    (wanted,) = infer(model, config, [tmp_path / "a.png"])
    inner = config.test_dataloader.dataset
    for step in inner.pipeline:
        step.type = f"mmaction.{step.type}"
    config.test_evaluator = [dict(type="mmaction.JHMDBMetric", link=None)]
    config.test_dataloader = dict(dataset=dict(type="RepeatDataset", times=1, dataset=inner))
    assert infer(model, config, [tmp_path / "a.png"]) == [wanted]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error_and_no_empty_answer(fitted, tmp_path, number):
    folder, _, checkpoint = fitted
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((47, 33, 3), np.uint8))
    config = small(folder)
    model = build_model(config, str(checkpoint))
    torch.nn.init.constant_(model.bbox_head.out.weight, number)
    (row,) = infer(model, config, [tmp_path / "a.png"])
    assert set(row) == {"file", "error"}
    assert "not all finite numbers" in row["error"]
    assert not model.bbox_head._forward_hooks


def test_names_that_do_not_fit_are_refused(fitted, tmp_path):
    folder, _, checkpoint = fitted
    config = small(folder)
    model = build_model(config, str(checkpoint))
    model.dataset_meta = dict(classes=["a", "b"])
    with pytest.raises(ValueError, match="has 2 classes, the model 4"):
        infer(model, config, [tmp_path / "a.png"])


@pytest.mark.parametrize(("gap", "last"), [(None, 11), (5, 9)])
def test_a_stretched_tube_ends_with_the_video_and_others_with_their_last_key_frame(gap, last):
    found = [
        KeyFrame(frame, np.array([[0, 0, 8, frame]]), np.array([[0.9]]), None)
        for frame in (1, 5, 9)
    ]
    ((label, tube),) = linked(found, LinkConfig(tubes=1, max_gap=gap), total=11)
    assert label == 0
    assert tube.frames.tolist() == list(range(1, last + 1))
    assert tube.boxes[:, 3].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9][:last]


@pytest.mark.parametrize("length", [1, 3, 10])
@pytest.mark.parametrize(("clip_len", "interval"), [(4, 1), (5, 2), (1, 1)])
def test_clips_of_a_stream_are_those_that_the_data_set_takes(length, clip_len, interval):
    from vared_mm.datasets.key_frame_clips import SampleAroundKeyFrame

    sample = SampleAroundKeyFrame(clip_len, interval)
    found = list(clips_around(range(length), clip_len, interval, every=2))
    wanted = [
        (key, sample.transform(dict(total_frames=length, frame=key + 1))["frame_inds"].tolist())
        for key in range(0, length, 2)
    ]
    assert found == wanted


@pytest.fixture
def ava(tmp_path):
    """The AVA config, narrow, on two generated key frames with their proposals in a file."""
    name = "localization/ava/vared-slowonly_k400-pre-r50_8xb16-4x16x1-20e_ava21-rgb.py"
    config = Config.fromfile(config_path(name))
    clip, boxes = render_clip("grow", 0, frames=20, size=64)
    (tmp_path / "v").mkdir()
    for number, frame in enumerate(clip, 1):
        cv2.imwrite(str(tmp_path / f"v/img_{number:05d}.jpg"), frame[..., ::-1])
    box = boxes[10] / 64
    lines = [f"v,{second:04d},{','.join(map(str, box))},12,0\n" for second in (900, 901)]
    (tmp_path / "ann.csv").write_text("".join(lines))
    (tmp_path / "exclude.csv").write_text("")
    (tmp_path / "labels.pbtxt").write_text('item {\n  name: "stand"\n  id: 12\n}\n')
    proposals = {f"v,{s:04d}": np.array([[*box, 0.99], [0, 0, 0.5, 0.5, 0.95]]) for s in (900, 901)}
    dump(proposals, tmp_path / "proposals.pkl")
    files = dict(
        ann_file=str(tmp_path / "ann.csv"),
        exclude_file=str(tmp_path / "exclude.csv"),
        label_file=str(tmp_path / "labels.pbtxt"),
    )
    for part in ("train", "val", "test"):
        loader = config[f"{part}_dataloader"]
        # AVARoIHead tests a single key frame at a time.
        size = 2 if part == "train" else 1
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            **files, proposal_file=str(tmp_path / "proposals.pkl"), fps=10, timestamp_end=902,
            data_prefix=dict(img=str(tmp_path)),
        )  # fmt: skip
        for step in loader.dataset.pipeline:
            small_steps = dict(RandomRescale=dict(scale_range=(64, 80)), RandomCrop=dict(size=64))
            step.update(small_steps.get(step.type, {}))
            if step.type == "Resize":
                step.scale = (-1, 64)
        if part != "train":
            config[f"{part}_evaluator"][0].update(files)
    config.model.backbone.update(depth=18, base_channels=16)
    config.model.roi_head.bbox_head.in_channels = 128
    config.model.init_cfg = None
    config.train_cfg.max_epochs = 1
    config.work_dir = str(tmp_path / "work")
    return config


def test_ava_s_detector_on_a_dynamic_slowonly_trains_a_step_and_tests(ava):
    runner = Runner.from_cfg(ava)
    before = runner.model.backbone.layer1[0].conv1.conv.weight.detach().clone()
    runner.train()
    assert runner.iter == 1
    assert not torch.equal(runner.model.backbone.layer1[0].conv1.conv.weight, before)
    losses = runner.message_hub.log_scalars
    assert losses["train/loss_action_cls"].current() > 0
    # λ_e starts at 0 and the first step sees it so.
    assert losses["train/mac_share"].current() == 1
    metrics = runner.test()
    assert 0 <= metrics["mAP/overall"] <= 1
    assert metrics["cost/share"] <= 1
