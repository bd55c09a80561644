"""Clips of frames in memory: what a recognizer says of them is what it says of a file."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import Config

from vared_mm.datasets.motion_clips import render_clip, write_video
from vared_mm.flops import build_model
from vared_mm.infer.canvas import LINE
from vared_mm.infer.frame_files import frames
from vared_mm.infer.live_drawing import OPEN, draw_answer, name_of, share_of
from vared_mm.infer.recognition import infer
from vared_mm.infer.sliding import SlidingClips
from vared_mm.kernels import tiled_conv
from vared_mm.shipped import shipped

NARROW = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))


def config_of(name="vared_i3d_motion.py", model=NARROW):
    config = Config.fromfile(shipped("configs") / "demo" / name)
    config.merge_from_dict(dict(model=model))
    return config


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file of 16 frames, which is one clip of the demo's networks."""
    file = tmp_path_factory.mktemp("video") / "grow.mp4"
    write_video(file, render_clip("grow", 0, frames=16, size=64)[0])
    return file


@pytest.fixture(scope="module")
def network():
    """A dynamic one, and its config; not trained, with gates that leave half."""
    # Of some draws bfloat16 makes scores 0.07 apart.
    torch.manual_seed(1)
    config = config_of()
    model = build_model(config)
    for module in model.modules():
        if hasattr(module, "gate"):
            module.gate.beta.data[::2], module.gate.beta.data[1::2] = -1.0, 1.0
    return model, config


@pytest.fixture(scope="module")
def clips(network, video):
    """Of that network, prepared."""
    clips = SlidingClips(*network)
    clips(list(frames(video)))
    return clips


def test_a_prepared_model_says_of_frames_what_it_says_of_their_file(
    network, video, clips, monkeypatch
):
    # Frame by frame, as all of a file are looked at: of a long one only the clips' are decoded.
    monkeypatch.setattr("decord.VideoReader.__getitem__", lambda *asked: pytest.fail("decoded"))
    model, config = network
    (row,) = infer(model, config, [video])
    assert clips.frames == 16
    answer = clips(list(frames(video)))
    assert answer.label == row["label"]
    assert answer.score == pytest.approx(row["score"], abs=1e-3)
    assert answer.cost.totals["full"] / 1e9 == pytest.approx(row["gmacs"], rel=1e-6)
    assert 0 < answer.cost.paper.sum() / answer.cost.dense.sum() < 1
    assert clips.model is not model
    assert answer.milliseconds > 0


def test_in_bfloat16_it_says_the_same_and_counts_the_same(network, video, clips, monkeypatch):
    monkeypatch.setattr(tiled_conv, "suits", lambda: True)
    clips_in_half = SlidingClips(*network, precision="bfloat16")
    half, exact = clips_in_half(list(frames(video))), clips(list(frames(video)))
    maps = [each.model.backbone.forward.maps for each in (clips_in_half, clips)]
    assert maps == [torch.bfloat16, None]
    assert half.label == exact.label
    assert half.score == pytest.approx(exact.score, abs=0.05)
    assert half.cost.totals["full"] == pytest.approx(exact.cost.totals["full"], rel=1e-6)


def test_a_clip_is_spread_over_a_longer_window_and_one_whatever_their_number(network):
    model, config = network
    config = deepcopy(config)
    config.test_dataloader.dataset.pipeline[1].update(num_clips=10, frame_interval=2)
    assert SlidingClips(model, config).frames == 32
    clips = SlidingClips(model, config, frames=34)
    grey = [np.full((48, 48, 3), i, np.uint8) for i in range(34)]
    (inputs,) = clips._clip(grey)["inputs"]
    # 16 frames, each second one, of the middle of the window.
    assert inputs[0, 0, :, 0, 0].tolist() == list(range(1, 33, 2))


def test_where_a_clip_is_spread_over_the_whole_video_a_window_is_asked_for(network, monkeypatch):
    model, config = network
    told = []
    monkeypatch.setattr("vared_mm.infer.sliding.print_log", lambda text, *_: told.append(text))
    SlidingClips(model, config)
    config = deepcopy(config)
    spread = dict(type="UniformSample", clip_len=16, test_mode=True)
    config.test_dataloader.dataset.pipeline[1] = spread
    SlidingClips(model, config, frames=64)
    assert told == []
    SlidingClips(model, config)
    assert "here over 16 frames. Give --window" in told[0]


def test_a_pipeline_of_pictures_is_refused(network):
    model, config = network
    config = deepcopy(config)
    config.test_dataloader.dataset.pipeline = [dict(type="LoadImageFromFile")]
    with pytest.raises(
        ValueError, match=r"with a clip_len, .* this one has \['LoadImageFromFile'\]"
    ):
        SlidingClips(model, config)


def test_the_bar_is_filled_as_far_as_the_share(video, clips):
    shots = list(frames(video))
    answer = clips(shots)
    share = answer.cost.paper.sum() / answer.cost.dense.sum()
    canvas = draw_answer(shots[0], answer, [])
    row = canvas[-LINE // 2]
    filled = (row == OPEN).all(-1).sum() / (canvas.shape[1] - 4)
    assert filled == pytest.approx(share, abs=0.02)


def test_a_static_model_has_no_bar_and_names_are_optional(network, video):
    config = config_of("i3d_motion.py")
    shots = list(frames(video))
    answer = SlidingClips(build_model(config), config)(shots)
    assert share_of(answer) is None
    assert not (draw_answer(shots[0], answer, []) == OPEN).all(-1).any()
    assert name_of(answer, []) == f"class {answer.label}"
    assert name_of(answer, ["a"] * 9) == "a"
