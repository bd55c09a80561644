"""The metric as mmengine calls it: from data samples to named figures."""

import numpy as np
import pytest
import torch

from vared_mm.engine import JHMDBMetric

BOX = (0.1, 0.2, 0.5, 0.8)


def sample(video="v", frame=1, found=((8.0, 20.0, 40.0, 80.0),), labels=(1,), **fields):
    """A key frame of 80 x 100 pixels with one true box of class 1, of the second of its tubes."""
    truth = dict(boxes=np.array([BOX]), labels=np.array([1]), tubes=np.array([1]))
    instances = dict(
        bboxes=torch.tensor(found).view(-1, 4),
        scores=torch.full((len(found),), 0.9),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return dict(
        video=video, frame=frame, truth=truth, original_shape=(100, 80), pred_instances=instances
    ) | fields  # fmt: skip


def evaluate(samples, classes=("run", "walk"), **settings):
    metric = JHMDBMetric(**settings)
    metric.dataset_meta = dict(classes=classes)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_perfect_boxes_of_a_detector_with_scores_and_labels_alone():
    metrics = evaluate([sample(frame=n) for n in (1, 2, 3)], classwise=True)
    assert metrics == {
        "jhmdb/recall": 1,
        "jhmdb/classif": 1,
        "jhmdb/frame_mAP@0.5": 1,
        "jhmdb/video_mAP@0.2": 1,
        "jhmdb/video_mAP@0.5": 1,
        "jhmdb/video_mAP@0.75": 1,
        "jhmdb/video_mAP@0.5:0.95": 1,
        "jhmdb/frame_AP@0.5/walk": 1,
        "jhmdb/video_AP@0.5/walk": 1,
    }


def test_tubes_at_an_iou_of_two_thirds_count_at_four_of_ten_thresholds():
    moved = ((14.4, 20.0, 46.4, 80.0),)  # a fifth of the width further
    metrics = evaluate([sample(frame=n, found=moved) for n in (1, 2)])
    assert metrics["jhmdb/video_mAP@0.5:0.95"] == pytest.approx(0.4)
    assert metrics["jhmdb/video_mAP@0.75"] == 0


def test_ends_that_are_pixels_decide_what_is_found_but_not_what_is_recalled():
    # 11 columns beside the true box, of 32 columns or, with the last one, 33.
    half = ((19.0, 20.0, 51.0, 80.0),)
    plain, pixels = (
        evaluate([sample(frame=n, found=half) for n in (1, 2)], pixel_ends=ends)
        for ends in (False, True)
    )
    of_boxes = ("jhmdb/frame_mAP@0.5", "jhmdb/video_mAP@0.5")
    assert [plain[name] for name in of_boxes] == [0, 0]  # 21 / 43
    assert [pixels[name] for name in of_boxes] == [1, 1]  # 22 / 44
    assert plain["jhmdb/recall"] == pixels["jhmdb/recall"] == 0


def test_objectness_decides_what_is_recalled_and_probabilities_the_class():
    instances = dict(
        bboxes=torch.tensor([(8.0, 20.0, 40.0, 80.0)]),
        objectness=torch.tensor([0.3]),
        class_probs=torch.tensor([[0.4, 0.6]]),
        scores=torch.tensor([0.18]),
        labels=torch.tensor([1]),
    )
    metrics = evaluate([sample(pred_instances=instances)])
    assert (metrics["jhmdb/recall"], metrics["jhmdb/classif"]) == (1, 1)


class OnDevice(torch.Tensor):
    """Like a tensor on a GPU, whose numbers numpy cannot read."""

    def __array__(self, *args, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_predictions_may_be_on_another_device():
    here = sample()
    there = {k: v.as_subclass(OnDevice) for k, v in here["pred_instances"].items()}
    assert evaluate([here | dict(pred_instances=there)]) == evaluate([here])


def test_frames_come_in_any_order():
    frames = [sample(video, n) for video in "ab" for n in range(1, 5)]
    assert evaluate(frames[::-1]) == evaluate(frames)


def test_no_prediction_at_all_scores_nothing():
    assert set(evaluate([sample(found=(), labels=())]).values()) == {0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(truth=None), "a sample without truth; PackActionInputs keeps the truth"),
        (dict(pred_instances=None), "a sample without pred_instances"),
        (dict(labels=(30,)), "tells 31 classes apart, the data set has 2; set num_classes"),
        (
            dict(pred_instances=dict(bboxes=torch.zeros(1, 4), objectness=torch.ones(1),
                                     class_probs=torch.ones(1, 5))),
            "tells 5 classes apart, the data set has 2; set num_classes of the bbox_head",
        ),
    ],
)  # fmt: skip
def test_samples_that_tell_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        evaluate([sample(**fields)])


def test_a_data_set_without_classes_is_refused():
    with pytest.raises(ValueError, match="needs the names of the classes, which JHMDBDataset"):
        evaluate([sample()], classes=())


@pytest.mark.parametrize("link", ["x", 2, [1], True])
def test_a_link_that_is_no_settings_is_refused(link):
    with pytest.raises(ValueError, match="link is .*; wanted settings as dict"):
        JHMDBMetric(link=link)
