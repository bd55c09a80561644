"""Views of a video that go through a recogniser together are clips, each of them one."""

import pytest
import torch
from mmaction.models import ActionDataPreprocessor
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch.utils.data import DataLoader

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import summarise
from vared_mm.engine.views import by_view, frames_of_view
from vared_mm.fast import benchmark
from vared_mm.fast.sides import Settings
from vared_mm.flops import build_model
from vared_mm.infer.recognition import cost_of
from vared_mm.settings import pipeline_of

R50 = "imagenet-pretrained-r50_8xb"
# Of the test pipeline, as its settings say.
VIEWS = {
    f"tsm/tsm_{R50}16-1x1x8-50e_kinetics400-rgb": 10,  # crops
    f"tsm/tsm_{R50}16-1x1x8-50e_sthv2-rgb": 2 * 3,  # sampled twice
    f"tanet/tanet_{R50}8-dense-1x1x8-100e_kinetics400-rgb": 10 * 3,  # positions
    f"tpn/tpn-tsm_{R50}8-1x1x8-150e_sthv1-rgb": 2 * 3,
    f"trn/trn_{R50}16-1x1x8-50e_sthv1-rgb": 2 * 3,
    f"tsn/tsn_{R50}32-1x1x3-100e_kinetics400-rgb": 10,
    f"tsn/tsn_{R50}32-dense-1x1x5-100e_kinetics400-rgb": 10 * 3,
    f"tsn/tsn_{R50}32_5x1x3-110e_kinetics400-flow": 10,
}


def recognizer(backbone, head):
    config = dict(
        type="Recognizer2D", backbone=dict(type=backbone, depth=18), cls_head=head,
        data_preprocessor=dict(type="ActionDataPreprocessor", format_shape="NCHW"),
    )  # fmt: skip
    return build_model(Config(dict(model=config)))


@pytest.mark.parametrize("name", VIEWS)
def test_the_frames_of_2_d_recognisers_part_into_the_views_of_their_pipeline(name):
    config = Config.fromstring(f"_base_ = 'mmaction::recognition/{name}.py'", ".py")
    model, steps = build_model(config), pipeline_of(config)
    frames = 25 if "tsn" in name else 8
    rows = torch.empty(2, VIEWS[name] * frames, 3, 4, 4)
    told = frames_of_view(model, Compose(steps).transforms)
    assert by_view(rows, told).shape == (2, VIEWS[name], frames, 3, 4, 4)


def test_where_nothing_tells_the_frames_of_a_view_all_are_one_clip_with_a_warning():
    model = recognizer("ResNet", dict(type="TSNHead", num_classes=2, in_channels=512))
    with pytest.warns(UserWarning, match="Recognizer2D has no num_segments, and its pipeline no"):
        frames = frames_of_view(model, [object()])
    assert by_view(torch.empty(1, 6, 3, 4, 4), frames).shape == (1, 1, 6, 3, 4, 4)


def test_the_cost_of_a_2_d_clip_is_the_mean_over_the_views_of_its_video():
    model = recognizer("ResNetTSM", dict(type="TSMHead", num_classes=2, in_channels=512))
    end = around_forward(model, "predict", CostWatch(model))
    costs = []
    for views in (1, 6):
        inputs = torch.randn(1, views * 8, 3, 32, 32)
        with torch.no_grad():
            (sample,) = model(inputs, [ActionDataSample()], mode="predict")
        costs.append(sample.mac_cost)
    end()
    assert costs[1].views == 6
    one, mean = (summarise([cost])["full_gmacs"]["avg"] for cost in costs)
    assert mean == cost_of(sample)["gmacs"] == pytest.approx(one)


@pytest.mark.parametrize("dims", [2, 3])
def test_of_a_video_the_middle_view_is_timed(dims, monkeypatch):
    model = recognizer("ResNetTSM", dict(type="TSMHead", num_classes=2, in_channels=512))
    views = torch.arange(6.0).view(6, 1, 1, 1, 1)
    video = views.expand(6, 8, 3, 4, 4).flatten(0, 1)
    if dims == 3:
        model.data_preprocessor = ActionDataPreprocessor(format_shape="NCTHW")
        video = views.expand(6, 3, 8, 4, 4)
    loader = DataLoader(
        [dict(inputs=video, data_samples=ActionDataSample())] * 2, collate_fn=pseudo_collate
    )
    monkeypatch.setattr(benchmark, "loader_of", lambda *args, **more: loader)
    monkeypatch.setattr(benchmark, "answer_of", lambda model, inputs: None)
    inputs = benchmark.inputs_of(model, Config(), Settings(shape=None), 2)
    assert inputs.shape == ((2, 8, 3, 4, 4) if dims == 2 else (2, 1, 3, 8, 4, 4))
    assert inputs.unique().tolist() == [3]
