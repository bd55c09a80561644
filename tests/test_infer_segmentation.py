"""Pictures and videos through a trained network: labels, costs, drawings, broken files."""

import json
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.datasets.scenes import CLASSES, draw_scene
from vared_mm.flops import build_model
from vared_mm.infer import segmentation
from vared_mm.infer.segmentation import infer
from vared_mm.infer.segmentation_overlay import LEGEND_WIDTH, Legend, draw_overlay

FCN = Path(__file__).parent.parent / "configs" / "segmentation" / "fcn"
GREEN, BLUE = (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def trained():
    """The scenes' network, narrower and untrained, with scores that differ within a picture."""
    config = Config.fromfile(FCN / "vared-fcn_r18w16-d8_1xb8-200_scenes-96x96.py")
    config.model.backbone.update(base_channels=8, stem_channels=16)
    config.model.decode_head.in_channels = 64
    config.model.auxiliary_head.in_channels = 32
    torch.manual_seed(0)
    model = build_model(config)
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        torch.nn.init.normal_(model.decode_head.conv_seg.weight)
        model.decode_head.conv_seg.bias -= model(x, mode="tensor").mean((0, 2, 3))
    DefaultScope._instance_dict.clear()
    return model, config


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), draw_scene(3, 48)[0])
    return path


def write_video(path, frames=4, size=(48, 40), rate=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for seed in range(frames):
        writer.write(cv2.resize(draw_scene(seed, 48)[0], size))
    writer.release()


def reference(model, path):
    """Labels and MACs of a picture, without our reader, pipeline and cost hook."""
    rgb = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    x = (rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    x = torch.tensor(x.transpose(2, 0, 1)[None].copy(), dtype=torch.float32)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        scores = model(x, mode="tensor")
    scores = torch.nn.functional.interpolate(scores, x.shape[2:], mode="bilinear")
    return scores.argmax(1)[0].numpy(), counter.get_total_flops() / 2e9


def test_a_picture_s_classes_and_cost_are_those_of_the_bare_network(trained, picture):
    labels, gmacs = reference(trained[0], picture)
    (row,) = infer(*trained, [picture])
    assert len(np.unique(labels)) >= 3
    shares = {CLASSES[i]: (labels == i).mean() for i in np.unique(labels)}
    assert row["classes"] == pytest.approx(shares, abs=1e-3)
    assert list(row["classes"].values()) == sorted(row["classes"].values(), reverse=True)
    assert row["gmacs"] == pytest.approx(gmacs)
    assert "frames" not in row
    assert row["share"] == 1.0
    assert row["drawing"] is None
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (37, 41)], ids=["1x1", "1x30", "37x41"])
def test_pictures_of_any_size_keep_it(trained, tmp_path, size):
    path = tmp_path / "odd.png"
    cv2.imwrite(str(path), cv2.resize(draw_scene(1, 48)[0], size[::-1]))
    labels, gmacs = reference(trained[0], path)
    assert labels.shape == size
    (row,) = infer(*trained, [path], tmp_path / "out")
    assert row["gmacs"] == pytest.approx(gmacs)
    drawn = cv2.imread(row["drawing"])
    assert drawn.shape[0] >= size[0]
    assert drawn.shape[1] == size[1] + size[1] % 2 + LEGEND_WIDTH


def test_grey_and_transparent_pictures_are_what_they_look_like(trained, tmp_path):
    colour = draw_scene(5, 48)[0]
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    files = {
        "grey": grey,
        "grey_in_colour": cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR),
        "transparent": cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA),
        "colour": colour,
    }
    for name, content in files.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), content)
    rows = infer(*trained, [tmp_path / f"{name}.png" for name in files])
    assert rows[0]["classes"] == rows[1]["classes"]
    assert rows[2]["classes"] == rows[3]["classes"]
    assert rows[0]["classes"] != rows[3]["classes"]


def test_a_video_s_row_averages_its_frames_and_its_drawing_has_them_all(trained, tmp_path):
    write_video(tmp_path / "drive.mp4")
    (row,) = infer(*trained, [tmp_path / "drive.mp4"], tmp_path / "out")
    frames = list(segmentation.frames(tmp_path / "drive.mp4"))
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    alone = infer(*trained, [tmp_path / f"{i}.png" for i in range(4)])
    assert row["frames"] == len(frames) == 4
    average = np.mean([one["classes"].get("ground", 0) for one in alone])
    assert row["classes"].get("ground", 0) == pytest.approx(average)
    gmacs = [one["gmacs"] for one in alone]
    assert row["gmacs"] == pytest.approx(np.mean(gmacs))
    assert (row["gmacs_min"], row["gmacs_max"]) == pytest.approx((min(gmacs), max(gmacs)))
    drawn = cv2.VideoCapture(row["drawing"])
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    assert drawn.get(cv2.CAP_PROP_FRAME_WIDTH) == 48 + LEGEND_WIDTH
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive_segments.mp4"]


def test_a_video_that_cannot_be_decoded_to_its_end_is_an_error_and_no_drawing(trained, tmp_path):
    write_video(tmp_path / "drive.mp4", frames=10)
    content = (tmp_path / "drive.mp4").read_bytes()
    start, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    half = (start + end) // 2
    (tmp_path / "drive.mp4").write_bytes(content[:half] + bytes(end - half) + content[end:])
    (row,) = infer(*trained, [tmp_path / "drive.mp4"], tmp_path / "out")
    assert re.search(r"drive\.mp4 is cut or broken: \d of 10 frames can be dec", row["error"])
    assert list((tmp_path / "out").iterdir()) == []


def test_the_drawing_mixes_colours_and_names_the_classes_that_are_there():
    legend = Legend(("a", "b", "c"), np.array([GREEN, BLUE, (9, 9, 9)], np.uint8))
    labels = np.zeros((300, 20), np.int64)
    labels[:, 5:] = 1
    canvas = draw_overlay(np.full((300, 20, 3), 100, np.uint8), labels, legend, "1 GMACs")
    assert canvas.shape == (300, 20 + LEGEND_WIDTH, 3)
    assert canvas[10, 2].tolist() == [50, 178, 50]  # BGR: grey 100 and green
    assert canvas[10, 10].tolist() == [178, 50, 50]
    boxes = {tuple(canvas[y, 20 + 8 + 7].tolist()) for y in range(250)}
    assert (255, 0, 0) in boxes
    assert (0, 255, 0) in boxes
    assert (9, 9, 9) not in boxes
    first = next(y for y in range(250) if canvas[y, 35].tolist() in ([255, 0, 0], [0, 255, 0]))
    assert canvas[first, 35].tolist() == [255, 0, 0]  # the more frequent class


def test_an_interruption_leaves_the_old_drawing(trained, picture, tmp_path, monkeypatch):
    out = tmp_path / "out"
    infer(*trained, [picture], out)
    before = (out / "street_segments.png").read_bytes()

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(segmentation, "draw_overlay", fail)
    with pytest.raises(KeyboardInterrupt):
        infer(*trained, [picture], out)
    assert [path.read_bytes() for path in out.iterdir()] == [before]


def test_no_hook_stays_on_the_model(trained, picture):
    infer(*trained, [picture])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trained[0].modules())


def test_files_that_cannot_be_read_are_told_in_their_row_and_the_others_go_on(
    trained, picture, tmp_path
):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "half.png").write_bytes(picture.read_bytes()[:40])
    names = ["nothing.png", "notes.txt", "half.png", "street.png"]
    rows = infer(*trained, [tmp_path / name for name in names], tmp_path / "out")
    messages = [
        r"there is no file .*nothing\.png",
        r"notes\.txt is no picture or video that OpenCV",
        r"half\.png begins like a picture, but OpenCV cannot read it",
    ]
    for row, message in zip(rows, messages, strict=False):
        assert set(row) == {"file", "error"}
        assert re.search(message, row["error"])
    assert rows[3]["gmacs"] > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["street_segments.png"]


def with_steps(config, *steps):
    """The config with a test pipeline that stands in its data set alone, as in a dumped one."""
    changed = config.copy()
    changed.pop("test_pipeline")
    inner = dict(config.test_dataloader.dataset, pipeline=list(steps))
    changed.test_dataloader = dict(dataset=inner)
    return changed


LOAD, LABELS, PACK = (
    dict(type=f"mmseg.{name}") for name in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")
)


def test_the_pipeline_is_the_test_set_s_own_under_any_scope(trained, picture):
    model, config = trained
    twice = dict(type="Resize", scale=(96, 96), keep_ratio=True)
    (plain,) = infer(model, with_steps(config, LOAD, LABELS, PACK), [picture])
    (large,) = infer(model, with_steps(config, LOAD, twice, LABELS, PACK), [picture])
    assert plain == infer(model, config, [picture])[0]
    assert large["dense_gmacs"] == pytest.approx(4 * plain["dense_gmacs"], rel=0.1)
    with pytest.raises(ValueError, match="whose first step loads a picture; this one has .'Pack"):
        infer(model, with_steps(config, PACK), [picture])


def test_a_network_of_grey_pictures_gets_them_of_pictures_and_videos(trained, picture, tmp_path):
    _, config = trained
    config = with_steps(config, dict(LOAD, color_type="grayscale"), LABELS, PACK)
    config.model = config.model.copy()
    config.model.backbone = dict(config.model.backbone, in_channels=1)
    config.model.data_preprocessor = dict(
        type="SegDataPreProcessor", mean=[110.0], std=[57.0], size=None
    )
    write_video(tmp_path / "drive.mp4")
    rows = infer(build_model(config), config, [picture, tmp_path / "drive.mp4"], tmp_path / "out")
    assert [row.get("error") for row in rows] == [None, None]
    assert rows[1]["frames"] == 4


def test_scores_that_are_no_numbers_are_an_error_and_no_answer(trained, picture):
    model, config = trained
    bias = model.decode_head.conv_seg.bias
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[2] = torch.inf
        (row,) = infer(model, config, [picture])
    finally:
        with torch.no_grad():
            bias.copy_(before)
    assert set(row) == {"file", "error"}
    assert "not all finite numbers" in row["error"]


def test_classes_of_one_name_are_one(trained, picture):
    model, config = trained
    (plain,) = infer(model, config, [picture])
    model.dataset_meta = dict(classes=["a", "a", "a", "a", "b"])
    try:
        (row,) = infer(model, config, [picture])
    finally:
        del model.dataset_meta
    assert sum(row["classes"].values()) == pytest.approx(1)
    assert row["classes"].get("b", 0) == plain["classes"].get(CLASSES[4], 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("a_segments.png cannot be written"), "a_segments.png cannot be written"),
        (KeyError("seg"), "KeyError: 'seg'"),
        (RuntimeError("[1] bad\nframe\n\nStack trace:\n..."), "RuntimeError: [1] bad frame"),
    ],
)
def test_what_one_file_causes_costs_the_others_nothing(
    trained, picture, tmp_path, monkeypatch, error, told
):
    predict = segmentation.predict

    def failing(model, packed):
        if "bad" in packed["data_samples"].img_path:
            raise error
        return predict(model, packed)

    monkeypatch.setattr(segmentation, "predict", failing)
    (tmp_path / "bad.png").write_bytes(picture.read_bytes())
    rows = infer(*trained, [tmp_path / "bad.png", picture])
    assert rows[0] == {"file": str(tmp_path / "bad.png"), "error": told}
    assert rows[1]["gmacs"] > 0


def test_two_files_of_one_name_are_not_drawn_over_each_other(trained, picture, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "street.png").write_bytes(picture.read_bytes())
    with pytest.raises(ValueError, match=r"street\.png and .*b/street\.png would both be drawn"):
        infer(*trained, [picture, tmp_path / "b" / "street.png"], tmp_path / "out")


def test_classes_come_from_the_checkpoint_first_and_have_to_be_the_model_s(trained, picture):
    model, config = trained
    model.dataset_meta = dict(classes=list("vwxyz"), palette=[[0, 0, 0]] * 5)
    try:
        assert set(infer(model, config, [picture])[0]["classes"]) <= set("vwxyz")
        model.dataset_meta = dict(classes=["only one"])
        with pytest.raises(ValueError, match="has 1 classes, the model 5; is the config"):
            infer(model, config, [picture])
        model.dataset_meta = dict(classes="scene")
        with pytest.raises(ValueError, match="are 'scene'; wanted a list of 5 names"):
            infer(model, config, [picture])
    finally:
        del model.dataset_meta


def test_the_table_names_what_was_found_and_faults_follow_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show = runpy.run_path(str(FCN.parents[2] / "tools" / "infer.py"))["show"]
    tubes = [dict(name="kick_ball", score=0.71), dict(name="run", score=0.25)]
    costs = dict(gmacs=1.25, gmacs_min=1.0, gmacs_max=1.5, dense_gmacs=2.0, share=0.5)
    show(
        [
            dict(file="a.mp4", tubes=tubes, key_frames=[{}] * 9, **costs, drawing="out/a.mp4"),
            dict(file="b.mp4", tubes=[], key_frames=[{}], **costs, drawing=None),
            dict(file="d [x].mp4", tubes=[], **costs, drawing=None, warning="a frame is missing"),
            dict(file="c.mp4", error="there is no\x1b[2J file c.mp4"),
        ],
        [],
    )
    printed = capsys.readouterr().out
    words = printed.split()
    for wanted in ("kick_ball", "0.710,", "run", "0.250", "1.250", "none", "a.mp4"):
        assert wanted in words
    assert "d [x].mp4" in printed
    assert printed.endswith(
        "\nd [x].mp4: a frame is missing\nc.mp4: there is no\\x1b[2J file c.mp4\n"
    )
