"""MMSegmentation's own configs with a dynamic trunk: the same network, a loss, a cost per image."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.check_labels_hook import decode_head
from vared_mm.engine.correct_segmentation import pixel_accuracy, pixels, upper_half
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import CostMetric
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost

BASES = Path(__file__).parent.parent / "configs" / "segmentation" / "_base_"

# A config of MMSegmentation, how many convolutions of its encoder are dynamic, and the image's
# size, which 8 does not divide where the network allows it.
CONFIGS = [
    ("fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512", 48, (41, 35)),
    ("pspnet/pspnet_r101-d8_4xb4-80k_ade20k-512x512", 99, (41, 35)),
    ("hrnet/fcn_hr18s_4xb4-80k_ade20k-512x512", 82, (41, 35)),
    ("mobilenet_v2/mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512", 50, (41, 35)),
    ("mobilenet_v3/mobilenet-v3-d8-s_lraspp_4xb4-320k_cityscapes-512x1024", 21, (401, 393)),
    ("unet/unet-s5-d16_fcn_4xb4-40k_stare-128x128", 18, (32, 48)),
]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmseg")


def build(settings, dynamic=True):
    settings = deepcopy(settings)
    settings.pop("pretrained", None)
    settings.backbone.pop("init_cfg", None)
    if dynamic:
        settings.backbone.type = f"VaRed{settings.backbone.type}"
    torch.manual_seed(0)
    return MODELS.build(settings)


def narrow(**test_cfg):
    """Two channels where the paper's network has 16, five classes; decisions that differ."""
    settings = Config.fromfile(BASES / "fcn_r18w16-d8_scenes.py").model
    settings.backbone.update(base_channels=8, stem_channels=16)
    settings.decode_head.in_channels, settings.auxiliary_head.in_channels = 64, 32
    settings.test_cfg = ConfigDict(mode="whole") | test_cfg
    model = build(settings)
    generator = torch.Generator().manual_seed(1)
    for conv in dynamic_convs(model).values():
        # Untrained features are small; their differences have to reach the gates' decisions.
        nn.init.normal_(conv.gate.weight1, std=30, generator=generator)
        nn.init.normal_(conv.gate.weight2, generator=generator)
    return model


def samples(count, size, classes=5, seed=0):
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(seed)
    height, width = size
    metainfo = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
    made = []
    for _ in range(count):
        labels = torch.randint(classes, (1, height, width), generator=generator)
        made.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=metainfo))
    return made


def images(count, size, seed=0):
    """Unlike each other, so that gates have something to tell apart."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.linspace(0.2, 3, count).view(-1, 1, 1, 1)
    return strength * torch.randn(count, 3, *size, generator=generator) + strength - 1


def predict(model, x):
    batch = samples(len(x), tuple(x.shape[2:]))
    return model(inputs=x, data_samples=batch, mode="predict")


@pytest.mark.parametrize(("name", "count", "size"), CONFIGS, ids=[c[0] for c in CONFIGS])
def test_a_config_of_mmsegmentation_becomes_dynamic_by_renaming_its_backbone(name, count, size):
    settings = get_config(f"mmseg::{name}.py").model
    static, model = build(settings, dynamic=False), build(settings)
    assert len(dynamic_convs(model)) == count
    missing, unexpected = model.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all(".gate." in key or ".cheap." in key for key in missing)

    x = images(2, size)
    with torch.no_grad(), forced_gates(model, (0.9, 0.4)):
        model.eval()
        evaluated = model(x)
        for conv in dynamic_convs(model).values():
            conv.training = True
        trained = model(x)
    assert (evaluated - trained).abs().max() <= 1e-4 * trained.abs().max()

    model.train()
    losses = model.loss(x, samples(2, size, classes=2))
    sum(value for key, value in losses.items() if "loss" in key).backward()
    assert all(conv.weight.grad is not None for conv in dynamic_convs(model).values())
    assert all(conv.gate.beta.grad.abs().sum() > 0 for conv in dynamic_convs(model).values())


def test_evaluation_skips_filters_and_answers_as_training_does():
    model, x = narrow().double(), images(2, (41, 35)).double()
    with torch.no_grad(), forced_gates(model, (0, 0.7)):
        model.eval()
        counter = FlopCounterMode(display=False)
        with counter, record_cost(model) as record:
            evaluated = model(x)
        for conv in dynamic_convs(model).values():
            conv.training = True
        torch.testing.assert_close(evaluated, model(x), rtol=1e-10, atol=1e-10)
    assert record.share(2).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5)])
def test_pictures_smaller_than_the_stride_are_segmented_in_their_size(size):
    model = narrow().eval()
    with torch.no_grad():
        answers = predict(model, images(2, size))
    assert [tuple(one.pred_sem_seg.data.shape) for one in answers] == [(1, *size)] * 2
    with torch.no_grad():
        alone = predict(model, images(2, size)[:1])
    torch.testing.assert_close(alone[0].seg_logits.data, answers[0].seg_logits.data)


def test_a_batch_of_single_pixels_trains():
    model = narrow().train()
    losses = model(images(2, (1, 1)), samples(2, (1, 1)), mode="loss")
    assert all(torch.isfinite(value).all() for value in losses.values())


def costs_of(model, x):
    """What the model spends on each image of a batch, as the cost hook tells it."""
    end = around_forward(model, "predict", CostWatch(model))
    try:
        with torch.no_grad():
            answers = predict(model, x)
    finally:
        end()
    return [answer.metainfo["mac_cost"] for answer in answers]


def counted(model, x):
    """MACs that ran for one image, by the judge."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        predict(model, x)
    return counter.get_total_flops() / 2


SLIDING = dict(mode="slide", crop_size=(32, 32), stride=(20, 20))


@pytest.mark.parametrize(
    ("test_cfg", "size"),
    [(dict(mode="whole"), (48, 40)), (SLIDING, (45, 37))],
    ids=["whole", "slide"],
)
def test_the_cost_of_each_image_of_a_batch_is_what_it_costs_alone(test_cfg, size):
    model = narrow(**test_cfg).eval()
    x = images(5, size)
    costs = costs_of(model, x)
    totals = [cost.static + cost.full.sum() for cost in costs]
    assert totals == pytest.approx([counted(model, one[None]) for one in x])
    assert len({tuple(cost.paper) for cost in costs}) > 1, "images should differ"
    assert all(cost.pixels == size[0] * size[1] for cost in costs)


def test_a_sliding_window_costs_the_sum_of_its_windows():
    whole, sliding = narrow().eval(), narrow(**SLIDING).eval()
    x = images(1, (52, 52))
    (cost,) = costs_of(sliding, x)
    windows = [x[:, :, i : i + 32, j : j + 32] for i in (0, 20) for j in (0, 20)]
    parts = [costs_of(whole, window)[0] for window in windows]
    assert cost.full.tolist() == pytest.approx(sum(part.full for part in parts).tolist())
    assert cost.dense.sum() == sum(part.dense.sum() for part in parts)
    assert cost.static == pytest.approx(sum(part.static for part in parts))


def test_images_of_different_sizes_are_told_by_image_and_by_megapixel():
    model, metric = narrow().eval(), CostMetric()
    gmacs, sizes = [], [(16, 24), (40, 32), (33, 57), (16, 24)]
    watch = CostWatch(model)
    end = around_forward(model, "predict", watch)
    for seed, size in enumerate(sizes):
        x = images(1, size, seed)
        with torch.no_grad():
            (answer,) = predict(model, x)
        metric.process(None, [answer.to_dict()])
        end()
        gmacs.append(counted(model, x) / 1e9)
        end = around_forward(model, "predict", watch)
    end()
    metrics = metric.evaluate(len(sizes))
    assert metrics["cost/full_gmacs"] == pytest.approx(sum(gmacs) / 4)
    assert metrics["cost/full_gmacs_max"] == pytest.approx(max(gmacs))
    rates = [1e6 * g / (h * w) for g, (h, w) in zip(gmacs, sizes, strict=True)]
    assert metrics["cost/full_gmacs_per_megapixel"] == pytest.approx(sum(rates) / 4)
    assert metrics["cost/full_gmacs_per_megapixel_min"] == pytest.approx(min(rates))


def test_pixel_accuracy_by_hand():
    head = ConfigDict(ignore_index=9, align_corners=False)
    scores = torch.zeros(3, 3, 2, 2)
    scores[0, 1] = 1  # all pixels are class 1
    scores[1, 2, 0] = 1  # the upper row is class 2, the lower one class 0
    labels = torch.tensor([[[1, 1], [0, 9]], [[2, 9], [0, 0]], [[9, 9], [9, 9]]])
    assert pixel_accuracy(head, scores, labels[:, None]).tolist() == [2 / 3, 1.0, 0.0]


def test_a_single_score_is_compared_with_the_threshold():
    head = ConfigDict(ignore_index=255, align_corners=False, threshold=0.3)
    scores = torch.tensor([[[[2.0, -0.5], [-1.0, -2.0]]]])  # sigmoid 0.88, 0.38, 0.27, 0.12
    assert pixel_accuracy(head, scores, [torch.tensor([[[1, 1], [1, 0]]])]).item() == 0.75


@pytest.mark.parametrize(
    ("accuracy", "pays"),
    [
        ([0.9, 0.1, 0.5, 0.7], [True, False, False, True]),
        ([0.1, 0.5, 0.9], [False, True, True]),
        ([0.3], [True]),
        ([0.5, 0.5], [True, True]),
        ([0.0, 0.0], [False, False]),
    ],
)
def test_the_better_half_of_a_batch_pays(accuracy, pays):
    assert upper_half(torch.tensor(accuracy, dtype=torch.float64)).tolist() == pays


@pytest.mark.parametrize(
    "settings",
    [
        Config.fromfile(BASES / "fcn_r18w16-d8_scenes.py").model,
        get_config("mmseg::ocrnet/ocrnet_hr18s_4xb4-80k_ade20k-512x512.py").model,
    ],
    ids=["two heads", "cascade"],
)
def test_the_judge_goes_by_the_accuracy_that_mmsegmentation_has(settings, monkeypatch):
    from mmseg.models.losses import accuracy
    from mmseg.models.utils import resize

    model, size = build(settings).train(), (41, 35)
    head, seen = decode_head(model), []
    batch = samples(4, size, head.num_classes)
    loss_by_feat = head.loss_by_feat
    monkeypatch.setattr(head, "loss_by_feat", lambda x, *a: seen.append(x) or loss_by_feat(x, *a))
    reads, right, loss = pixels(model)
    assert reads is head.conv_seg
    model(images(4, size), batch, mode="loss")
    full = resize(seen[0], size, mode="bilinear", align_corners=head.align_corners)
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in batch])
    theirs = [accuracy(full[i : i + 1], labels[i : i + 1]).item() / 100 for i in range(4)]
    ours = pixel_accuracy(head, seen[0], labels[:, None])
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6)
    assert right(seen[0], batch).tolist() == upper_half(ours).tolist()
    assert loss(seen[0], batch).tolist() == pytest.approx([1 - part for part in theirs], abs=1e-6)


def test_a_model_without_such_a_head_is_told_of_the_other_judge():
    with pytest.raises(ValueError, match="model with a decode_head; Linear has none"):
        decode_head(nn.Linear(1, 1))
    model = nn.Module()
    model.decode_head = nn.Linear(1, 1)
    model.decode_head.ignore_index = 255
    message = r"decode_head.conv_seg, which Linear lacks; choose correct='always'"
    with pytest.raises(ValueError, match=message):
        pixels(model)
