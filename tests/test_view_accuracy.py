"""clip-1, video-1 and video-5 against the protocol written as loops over saved scores."""

import math
import pickle
import socket
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
from mmengine.registry import METRICS, MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.view_accuracy import ViewAccuracy, centre_view, crops_of, rank, view_scores

CROPS = 3


@pytest.fixture(autouse=True)
def _no_scope_stays():
    yield
    DefaultScope._instance_dict.clear()


def brute_force(saved, clips):
    """Of (scores[crop][clip][class], label) for each video, softmax and sorting by hand."""
    clip1 = video1 = video5 = 0
    for scores, label in saved:
        centre = scores[2][clips // 2]  # ThreeCrop: left, right, middle
        clip1 += max(range(len(centre)), key=lambda c: centre[c]) == label
        total = [0.0] * len(centre)
        for crop in scores:
            for clip in crop:
                exponentials = [math.exp(score) for score in clip]
                for c, value in enumerate(exponentials):
                    total[c] += value / sum(exponentials)
        order = sorted(range(len(total)), key=lambda c: -total[c])
        video1 += order[0] == label
        video5 += label in order[:5]
    return {
        "acc/clip1": clip1 / len(saved),
        "acc/video1": video1 / len(saved),
        "acc/video5": video5 / len(saved),
    }


@pytest.mark.parametrize("clips", [3, 10])
def test_it_equals_the_brute_force_on_saved_scores(clips):
    rng = np.random.default_rng(0)
    saved, metric = [], METRICS.build(dict(type="ViewAccuracy"))
    for _ in range(60):
        scores, label = rng.normal(0, 3, (CROPS, clips, 12)), int(rng.integers(12))
        scores[..., label] += 1
        saved.append((scores.tolist(), label))
        views = torch.tensor(scores, dtype=torch.float32).flatten(0, 1)
        metric.process(None, [dict(view_scores=views, gt_label=torch.tensor([label]))])
    wanted = brute_force(saved, clips)
    assert 0 < wanted["acc/clip1"] < wanted["acc/video1"] < wanted["acc/video5"] < 1
    assert metric.evaluate(60) == pytest.approx(wanted)


def test_the_video_can_be_right_where_its_centre_clip_is_wrong():
    scores = torch.tensor([[9.0, 0], [9, 0], [0, 1]])
    metric = ViewAccuracy()
    metric.process(None, [dict(view_scores=scores, gt_label=torch.tensor([0]))])
    assert metric.evaluate(1) == {"acc/clip1": 0, "acc/video1": 1, "acc/video5": 1}


def test_softmax_is_taken_before_the_mean():
    """One very sure view: the mean of scores says class 0, that of probabilities class 1."""
    scores = torch.tensor([[40.0, 0], [0, 3], [0, 3]])
    metric = ViewAccuracy()
    metric.process(None, [dict(view_scores=scores, gt_label=torch.tensor([1]))])
    assert metric.evaluate(1)["acc/video1"] == 1


@pytest.mark.parametrize(
    ("views", "crops", "index"), [(30, 3, 25), (9, 3, 7), (5, 1, 2), (1, 3, 0)]
)
def test_the_centre_view_by_hand(views, crops, index):
    assert centre_view(views, crops) == index


def test_views_that_are_no_crops_of_clips_are_refused():
    with pytest.raises(ValueError, match="10 views of a video are not 3 crops of each clip"):
        centre_view(10, 3)


def test_three_crop_and_format_shape_give_the_views_in_that_order():
    from mmaction.datasets.transforms import FormatShape, ThreeCrop

    frames = [np.full((4, 6, 3), 10 * clip, np.uint8) + np.arange(6)[:, None].astype(np.uint8)
              for clip in range(5) for _ in range(2)]  # fmt: skip
    out = ThreeCrop(4).transform(dict(imgs=frames, num_clips=5, clip_len=2))
    view = FormatShape("NCTHW").transform(out)["imgs"][centre_view(15, 3)]
    assert view.shape == (3, 2, 4, 4)
    assert view[0, 0, 0].tolist() == [21, 22, 23, 24]  # clip 2 of 0 to 4, without its two edges


class Mirrored:
    """A step of the user's own, which may make any number of views."""


@pytest.mark.parametrize(
    ("step", "crops"),
    [
        (dict(type="CenterCrop", crop_size=4), 1),
        (dict(type="Resize", scale=(4, 4)), 1),
        (dict(type="ThreeCrop", crop_size=4), 3),
        (dict(type="TenCrop", crop_size=4), 10),
        (Mirrored(), None),
    ],
)
def test_the_pipeline_tells_how_many_views_of_each_clip_it_makes(step, crops):
    from mmaction.registry import TRANSFORMS

    decode = TRANSFORMS.build(dict(type="DecordDecode"))
    step = TRANSFORMS.build(step) if isinstance(step, dict) else step
    videos = SimpleNamespace(pipeline=SimpleNamespace(transforms=[decode, step]))
    assert crops_of(videos) == crops
    assert crops_of(SimpleNamespace(dataset=[], pipeline=None)) is None


@pytest.mark.parametrize("clips", [3, 12])
def test_of_clips_of_one_crop_the_default_would_take_another_than_the_centre_one(clips):
    scores = torch.zeros(clips, 2)
    scores[clips // 2, 0] = 1
    sample = dict(view_scores=scores, gt_label=torch.tensor([0]), view_crops=1)
    message = rf"crops=3, and the pipeline takes 1 of each clip: of {clips} views .* crops=1\)"
    with pytest.raises(ValueError, match=message):
        ViewAccuracy().process(None, [sample])
    metric = ViewAccuracy(crops=1)
    metric.process(None, [sample])
    assert metric.evaluate(1)["acc/clip1"] == 1
    # A lone view is the centre one of any number of crops, as in our validation.
    ViewAccuracy().process(None, [sample | dict(view_scores=scores[:1])])


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0], [math.nan] * 3])
def test_a_model_that_tells_nothing_apart_is_right_about_nothing(scores):
    assert rank(torch.tensor(scores), 1) == 2


def recognizer():
    init_default_scope("mmaction")
    torch.manual_seed(0)
    head = dict(type="I3DHead", num_classes=3, in_channels=32, average_clips="prob")
    backbone = dict(type="R2Plus1d18", base_channels=4)
    return MODELS.build(dict(type="Recognizer3D", backbone=backbone, cls_head=head)).eval()


def test_the_hook_keeps_the_scores_whose_softmax_mean_the_head_predicts():
    from mmaction.structures import ActionDataSample

    model = recognizer()
    samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
    clips = torch.randn(2, 6, 3, 8, 16, 16)
    end = around_forward(model, "predict", view_scores(model, crops=3))
    with torch.no_grad():
        model(inputs=clips, data_samples=samples, mode="predict")
    end()
    for sample in samples:
        assert (sample.view_scores.shape, sample.view_crops) == ((6, 3), 3)
        torch.testing.assert_close(sample.pred_score, sample.view_scores.softmax(1).mean(0))
    assert not model._forward_hooks
    assert not model.cls_head._forward_hooks


def test_of_a_head_that_is_asked_twice_no_scores_are_kept():
    model = nn.Identity()
    model.cls_head = nn.Identity()
    with ExitStack() as stack:
        finish = view_scores(model)(stack, {})
        model.cls_head(torch.eye(2))
        model.cls_head(torch.eye(2))
        with pytest.raises(ValueError, match="called once for all samples; came 2 answers"):
            finish([BaseDataElement(), BaseDataElement()])


def test_a_test_run_saves_the_scores_that_give_its_metrics_again(tmp_path):
    dump = tmp_path / "predictions.pkl"
    settings = toy.runner_settings(tmp_path, dynamic={}, hooks=[dict(type="ViewScoresHook")])
    settings["test_evaluator"] = [
        dict(type="ViewAccuracy"),
        dict(type="DumpResults", out_file_path=str(dump)),
    ]
    metrics = Runner(**settings).test()
    saved = pickle.loads(dump.read_bytes())
    right = [int(s["view_scores"][0].argmax()) == int(s["gt_label"]) for s in saved]
    assert metrics == {"acc/clip1": sum(right) / toy.CLIPS}


def test_a_metric_without_its_hook_says_what_to_add():
    with pytest.raises(ValueError, match=r"add dict\(type='ViewScoresHook'\) to custom_hooks"):
        ViewAccuracy().process(None, [dict(gt_label=torch.tensor([0]))])


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match="a cls_head, which Linear lacks"):
        view_scores(torch.nn.Linear(1, 1))


def test_no_hook_is_needed_outside_of_evaluation():
    """The loss mode runs as without it."""
    model = toy.ToyRecognizer(dynamic={})
    end = around_forward(model, "predict", view_scores(model))
    sample = BaseDataElement(gt_label=torch.tensor([0]))
    losses = model(torch.zeros(2, 2, 4, 6, 6), [sample, sample], mode="loss")
    end()
    assert set(losses) == {"loss_cls"}
    assert "view_scores" not in sample


def evaluate_in_one_of_two(process, port, folder):
    torch.distributed.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", rank=process, world_size=2
    )
    metric = ViewAccuracy()
    # 5 videos for 2 processes: the sampler gives the first one out twice.
    for video in ((0, 2, 4), (1, 3, 0))[process]:
        scores = torch.eye(6)[[0, video, video]]
        metric.process(None, [dict(view_scores=scores, gt_label=torch.tensor([video % 3]))])
    metrics = metric.evaluate(5)
    (folder / f"{process}.txt").write_text(repr(metrics))
    torch.distributed.destroy_process_group()


def test_two_processes_count_each_video_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not spawned, as each would import all of this again.
    torch.multiprocessing.start_processes(
        evaluate_in_one_of_two, (port, tmp_path), nprocs=2, start_method="fork"
    )
    wanted = {"acc/clip1": 3 / 5, "acc/video1": 3 / 5, "acc/video5": 4 / 5}
    for process in range(2):
        got = eval((tmp_path / f"{process}.txt").read_text())
        assert got == pytest.approx(wanted)


def test_samples_of_several_labels_are_refused_by_name():
    sample = dict(view_scores=torch.rand(1, 3), gt_label=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="samples of one label; came a gt_label of 3 numbers"):
        ViewAccuracy(crops=1).process(None, [sample])


@pytest.mark.parametrize("label", [-1, 9])
def test_a_label_without_a_class_is_refused_and_not_the_last_one(label):
    sample = dict(view_scores=torch.eye(9)[8:], gt_label=torch.tensor([label]))
    with pytest.raises(ValueError, match=f"label {label} beside .* 9 classes; wanted 0 to 8"):
        ViewAccuracy().process(None, [sample])
