"""Film strips show the frames that the network saw, in the colours of the file."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from vared_mm.report.evaluated_clips import is_bgr
from vared_mm.report.film_strips import FRAMES, Strip, evenly, film_strips, frames_seen

RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


def clip(*colours, size=(4, 6)):
    """Frames (T, H, W, 3), each of one colour."""
    return np.stack([np.broadcast_to(colour, (*size, 3)) for colour in colours])


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(lambda c: np.stack([c, c[::-1]]).transpose(0, 4, 1, 2, 3), id="views-of-3-D"),
        pytest.param(lambda c: c.transpose(0, 3, 1, 2), id="frames-of-2-D"),
    ],
)
def test_the_frames_of_a_clip_in_every_layout(inputs):
    frames = clip(RED, GREEN, BLUE, RED)
    packed = {"inputs": torch.from_numpy(inputs(frames).copy())}
    np.testing.assert_array_equal(frames_seen(packed, bgr=False), frames)


def test_an_image_in_opencvs_order_is_one_frame_in_rgb():
    packed = {"inputs": torch.from_numpy(clip(BLUE)[0].transpose(2, 0, 1).copy())}
    np.testing.assert_array_equal(frames_seen(packed, bgr=True), clip(RED))


@pytest.mark.parametrize(
    ("preprocessor", "load", "bgr"),
    [
        pytest.param(dict(bgr_to_rgb=True), "LoadImageFromFile", True, id="wants-rgb"),
        pytest.param(dict(bgr_to_rgb=False), "mmdet.LoadImageFromFile", True, id="wants-bgr"),
        pytest.param(dict(), "DecordDecode", False, id="frames"),
    ],
)
def test_pictures_are_in_opencvs_order_whichever_the_network_wants(preprocessor, load, bgr):
    data = dict(dataset=dict(pipeline=[dict(type=load)]))
    config = Config(dict(model=dict(data_preprocessor=preprocessor), test_dataloader=data))
    assert is_bgr(config) == bgr


def test_what_the_pipeline_has_normalised_is_stretched_to_what_can_be_seen():
    inputs = torch.tensor([-2.0, 0.0, 2.0]).view(3, 1, 1, 1).expand(1, 3, 2, 4, 6)
    assert frames_seen({"inputs": inputs}, bgr=False)[0, 0, 0].tolist() == [0, 128, 255]
    constant = torch.zeros(1, 3, 2, 4, 6)
    assert not frames_seen({"inputs": constant}, bgr=False).any()


def test_two_channels_of_flow_are_seen_in_grey():
    inputs = torch.tensor([[0.0, 2.0], [2.0, 4.0]]).view(1, 2, 1, 1, 2)
    assert frames_seen({"inputs": inputs}, bgr=False)[0, 0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("count", "places"), [(3, [0, 1, 2]), (8, list(range(8))), (15, list(range(0, 15, 2)))]
)
def test_frames_are_taken_evenly_from_the_first_to_the_last(count, places):
    assert evenly(count, FRAMES) == places


def test_a_row_of_frames_under_its_class_share_and_file():
    shades = [np.full(3, 10 * i, np.uint8) for i in range(15)]
    strips = [
        Strip("jump", "videos/high.mp4", 0.6789, clip(*shades)),
        Strip("jump", "videos/low.mp4", 0.5, clip(RED, GREEN, BLUE)),
    ]
    panels = film_strips(strips).axes
    most, least = panels[:8], panels[8:]
    assert most[0].get_title("left") == "jump: 67.9% (high.mp4)"
    assert least[0].get_title("left") == "jump: 50.0% (low.mp4)"
    shown = [panel.images[0].get_array()[0, 0, 0] for panel in most]
    assert shown == [0, 20, 40, 60, 80, 100, 120, 140]
    shown = [panel.images[0].get_array() for panel in least if panel.images]
    np.testing.assert_array_equal(shown, clip(RED, GREEN, BLUE))
