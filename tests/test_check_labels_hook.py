"""Labels, settings and pictures that do not fit each other are refused by name."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

import vared_mm  # noqa: F401
from vared_mm.compat import config_path
from vared_mm.engine.check_labels_hook import (
    CheckLabelsHook,
    check_classes,
    check_ignored,
    check_labels,
    check_padding,
    check_size,
    decode_head,
    heads_of,
)

SIZE = (4, 6)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmseg")


def network(**changes):
    """Five classes, 255 to be ignored, padded to multiples of 8 with 255."""
    settings = Config.fromfile(config_path("segmentation/_base_/fcn_r18w16-d8_scenes.py")).model
    config = Config(dict(model=settings))
    config.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    return MODELS.build(config.model)


def sample(size=SIZE, **metainfo):
    from mmseg.structures import SegDataSample

    labels = PixelData(data=torch.zeros(1, *size, dtype=torch.long))
    metainfo = dict(seg_map_path="street.png", img_path="street.jpg", ori_shape=SIZE) | metainfo
    return SegDataSample(gt_sem_seg=labels, metainfo=metainfo)


def metric(**settings):
    return SimpleNamespace(**settings)


def picture(height, width):
    return torch.zeros(3, height, width)


def test_a_data_set_of_other_classes_is_refused():
    data = ConfigDict(metainfo=dict(classes=("sky", "road", "car")))
    message = r"has 3 classes, sky, road, car, and .*num_classes=5; set num_classes=3"
    with pytest.raises(ValueError, match=message):
        check_classes(network(), data)


def test_labels_out_of_range_are_named_with_their_file():
    head = decode_head(network())
    seen = sample()
    check_labels(head, seen)
    seen.gt_sem_seg.data[0, :2, 0] = 255  # to be ignored
    check_labels(head, seen)
    seen.gt_sem_seg.data[0, 0, 1:3] = 7
    message = r"street.png has 2 pixels labelled 7; wanted 0 to 4, or 255 for what"
    with pytest.raises(ValueError, match=message):
        check_labels(head, seen)


def test_colours_in_place_of_class_indices_are_refused():
    from mmseg.structures import SegDataSample

    labels = PixelData(data=torch.zeros(6, 8, 3, dtype=torch.long))
    message = r"labels of shape \(6, 8, 3\); wanted a class index per pixel"
    with pytest.raises(ValueError, match=message):
        check_labels(decode_head(network()), SegDataSample(gt_sem_seg=labels))


def test_the_auxiliary_head_has_the_classes_of_the_data_set_too():
    data = ConfigDict(metainfo=dict(classes=tuple("abcde")))
    check_classes(network(), data)
    with pytest.raises(ValueError, match="has 5 classes, .* and the auxiliary_head num_classes=4"):
        check_classes(network(**{"auxiliary_head.num_classes": 4}), data)


def test_a_string_is_no_list_of_classes():
    with pytest.raises(ValueError, match=r"classes is the string 'scene', .* as \('scene',\)"):
        check_classes(network(), ConfigDict(metainfo=dict(classes="scene")))


def test_all_heads_of_a_cascade_are_looked_at():
    from mmengine.hub import get_config

    settings = get_config("mmseg::ocrnet/ocrnet_hr18s_4xb4-80k_ade20k-512x512.py").model
    settings.pop("pretrained")
    assert list(heads_of(MODELS.build(settings))) == ["decode_head.0", "decode_head.1"]


@pytest.mark.parametrize(
    ("changes", "metrics", "message"),
    [
        ({}, [metric(ignore_index=255), metric()], None),
        (
            {"decode_head.ignore_index": 5, "auxiliary_head.ignore_index": 5},
            [metric(ignore_index=255)],
            "decode_head has ignore_index=5, auxiliary_head has ignore_index=5, "
            "SimpleNamespace of the evaluator has ignore_index=255; set the same",
        ),
        (
            {"auxiliary_head.ignore_index": 5},
            [],
            "decode_head has ignore_index=255, auxiliary_head has ignore_index=5",
        ),
        (
            {"decode_head.loss_decode": dict(type="TverskyLoss", ignore_index=5)},
            [],
            "decode_head.loss_decode has ignore_index=5",
        ),
        (
            {"decode_head.loss_decode": dict(type="OhemCrossEntropy", ignore_label=5)},
            [],
            "decode_head.loss_decode has ignore_label=5",
        ),
    ],
    ids=["all alike", "metric", "heads", "loss", "ohem"],
)
def test_what_is_ignored_is_the_same_everywhere(changes, metrics, message):
    changes = {
        name: dict(value, _delete_=True) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    model = network(**changes)
    if message is None:
        check_ignored(model, metrics)
    else:
        with pytest.raises(ValueError, match=message):
            check_ignored(model, metrics)


@pytest.mark.parametrize(
    ("settings", "pictures", "padded"),
    [
        (dict(size_divisor=8), [(8, 16), (8, 16)], False),
        (dict(size_divisor=8), [(8, 15)], True),
        (dict(size_divisor=None, size=(8, 16)), [(8, 16)], False),
        (dict(size_divisor=None, size=(8, 17)), [(8, 16)], True),
        (dict(size_divisor=8), [(8, 16), (16, 16)], True),
        (dict(size_divisor=8, seg_pad_val=255), [(8, 15)], False),
    ],
)
def test_labels_are_padded_with_what_the_heads_ignore(settings, pictures, padded):
    settings = dict(seg_pad_val=7) | settings
    model = network(**{f"data_preprocessor.{name}": value for name, value in settings.items()})
    if not padded:
        check_padding(model, [picture(*size) for size in pictures])
        return
    with pytest.raises(
        ValueError, match="with seg_pad_val=7, .* ignore_index=255, .* seg_pad_val=255"
    ):
        check_padding(model, [picture(*size) for size in pictures])


def test_labels_of_another_size_are_named_with_their_picture():
    check_size(sample(), SIZE)
    with pytest.raises(
        ValueError, match="street.png gives labels of 4 x 6 to .* 6 x 4, street.jpg"
    ):
        check_size(sample(), (6, 4))


class Runner(SimpleNamespace):
    """What the hook asks of mmengine's."""

    def __init__(self, model, ignore_index=255, classes=5):
        data = SimpleNamespace(
            dataset=ConfigDict(metainfo=dict(classes=tuple("abcdefg"[:classes])))
        )
        super().__init__(
            model=model,
            train_dataloader=data,
            val_dataloader=data,
            test_dataloader=data,
            val_loop="there",
            val_evaluator=metric(metrics=[metric(ignore_index=ignore_index)]),
        )
        self.test_evaluator = self.val_evaluator


def test_the_settings_of_the_validation_are_compared_before_the_training():
    hook, model = CheckLabelsHook(), network()
    hook.before_train(Runner(model))
    for start in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(ValueError, match="of the evaluator has ignore_index=7"):
            start(Runner(model, ignore_index=7))
        with pytest.raises(ValueError, match="has 6 classes"):
            start(Runner(model, classes=6))


def test_labels_are_compared_with_what_they_stand_beside():
    hook, runner = CheckLabelsHook(), Runner(network())
    small = dict(inputs=[picture(8, 8)], data_samples=[sample((8, 8), ori_shape=SIZE)])
    hook.before_train_iter(runner, 0, small)
    with pytest.raises(ValueError, match="8 x 8 to a picture of 4 x 6"):
        hook.before_test_iter(runner, 0, small)
    whole = dict(inputs=[picture(8, 8)], data_samples=[sample()])
    hook.before_val_iter(runner, 0, whole)
    with pytest.raises(ValueError, match="4 x 6 to a picture of 8 x 8"):
        hook.before_train_iter(runner, 0, whole)
