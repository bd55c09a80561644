"""YOWO: its cost, its gates, what it refuses, and which of its frames are right."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.compat import config_path
from vared_mm.engine.correct_localization import found_right, matched_box
from vared_mm.method.gate import Gate
from vared_mm.method.observe import Look
from vared_mm.models.localization import CFAM, Darknet19, RegionHead
from vared_mm.models.localization.cfam import gram_attention
from vared_mm.models.localization.yowo import in_original, pooled_over_time


def macs(name):
    """GMACs of the convolutions of a config's parts, for 16 x 224 x 224."""
    init_default_scope("mmaction")
    config = Config.fromfile(config_path(f"localization/yowo/{name}.py"))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        MODELS.build(config.model).eval()(torch.empty(1, 1, 3, 16, 224, 224))
    counts = counter.get_flop_counts()
    return {
        part: counts[f"YOWO.{part}"][torch.ops.aten.convolution] / 2e9
        for part in ("backbone", "backbone_2d", "fusion", "bbox_head")
    }


@pytest.mark.parametrize(("trunk", "wanted"), [("i3d", 43.88), ("x3d", 5.756)])
def test_the_cost_without_the_2d_network_is_the_paper_s(trunk, wanted):
    parts = macs(f"yowo-{trunk}_8xb12-16x1x1-10e_jhmdb21-rgb")
    # YOLOv2 has 29.46 GFLOPs at 416 x 416, two for each MAC.
    assert parts.pop("backbone_2d") == pytest.approx(29.46 / 2 * (224 / 416) ** 2, rel=1e-3)
    assert sum(parts.values()) == pytest.approx(wanted, rel=2e-4)


def test_the_attention_is_the_mean_of_all_channels_by_brute_force():
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    for n in range(2):
        flat = x[n].flatten(1)
        for c in range(5):
            energy = [(flat[c] * flat[d]).sum() for d in range(5)]
            weights = torch.stack([(max(energy) - e).exp() for e in energy])
            wanted = sum(w / weights.sum() * flat[d] for d, w in enumerate(weights))
            torch.testing.assert_close(gram_attention(x)[n, c].flatten(), wanted)


def test_the_attention_is_learned_in_from_nothing():
    cfam = CFAM(6, channels=8)
    before = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(cfam.attention(before), before)


def test_darknet_takes_multiples_of_32_only():
    net = Darknet19(width=1 / 32, out_channels=7)
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 7, 2, 3)
    with pytest.raises(ValueError, match=r"multiples of 32, as 224 x 224; came 64 x 100"):
        net(torch.zeros(1, 3, 64, 100))


def narrow(**settings):
    """YOWO on a dynamic I3D of an eighth of its width, for 3 classes."""
    torch.manual_seed(0)
    parts = dict(
        backbone=dict(type="VaRedInceptionI3d", width=0.125),
        backbone_2d=dict(type="Darknet19", width=1 / 16, out_channels=8),
        fusion=dict(type="CFAM", in_channels=128 + 8, channels=16),
        bbox_head=dict(type="RegionHead", num_classes=3, in_channels=16),
    )
    return MODELS.build(dict(type="YOWO", **(parts | settings)))


def sample(boxes=((4.0, 4.0, 40.0, 60.0),), labels=(1,), **meta):
    truth = InstanceData(
        bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.tensor(labels, dtype=torch.long)
    )
    return BaseDataElement(gt_instances=truth, metainfo=dict(img_shape=(64, 64), **meta))


def test_a_clip_gives_losses_and_boxes_in_pixels_of_the_original_frame():
    model = narrow()
    clips = torch.randn(2, 1, 3, 8, 64, 64)
    losses = model(clips, [sample(), sample((), ())], mode="loss")
    sum(losses.values()).backward()
    assert set(losses) == {"loss_box", "loss_object", "loss_class"}
    assert model.backbone.conv1a_7x7.conv.weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        plain = model(clips, [sample(), sample()], mode="predict")
        scaled = model(clips, [sample(original_shape=(32, 640))] * 2, mode="predict")
    factor = torch.tensor([10, 0.5, 10, 0.5])
    assert len(plain[0].pred_instances.bboxes)
    torch.testing.assert_close(
        scaled[1].pred_instances.bboxes, plain[1].pred_instances.bboxes * factor
    )


def test_of_a_crop_boxes_lie_in_the_frame_that_it_was_taken_from():
    # The lower right quarter of 200 x 100 pixels, resized to 64 x 64.
    found = InstanceData(bboxes=torch.tensor([[0.0, 0, 32, 64], [32, 16, 64, 48]]))
    told = dict(original_shape=(100, 200), crop_quadruple=np.array([0.5, 0.5, 0.5, 0.5], "f"))
    assert in_original(found, told, (64, 64)).bboxes.tolist() == [
        [100, 50, 150, 100],
        [150, 62.5, 200, 87.5],
    ]


def test_a_box_that_a_crop_cut_away_teaches_nothing():
    model, clips = narrow().eval(), torch.randn(1, 3, 8, 64, 64)
    gone = sample(((4.0, 4, 40, 60), (63, 8, 63, 20)), (1, 2))
    with torch.no_grad():
        wanted, losses = (model(clips, [one], mode="loss") for one in (sample(), gone))
    assert losses == wanted
    right = matched_box(model)[1]
    raw = torch.full((1, 40, 2, 2), -20.0)
    nothing = sample(((63.0, 8, 63, 20),), (2,))
    assert right(raw, [nothing]).tolist() == [True]


def test_both_pathways_of_slowfast_are_pooled_and_of_several_stages_the_last():
    slow, fast = torch.full((1, 2, 4, 3, 3), 5.0), torch.arange(8.0).view(1, 1, 8, 1, 1)
    pooled = pooled_over_time((slow, fast.expand(1, 1, 8, 3, 3)))
    assert pooled[0, :, 1, 1].tolist() == [5, 5, 3.5]
    stages = (torch.zeros(1, 2, 4, 6, 6), slow)
    assert pooled_over_time(stages).tolist() == pooled_over_time(slow).tolist()


def test_the_middle_frame_is_the_one_that_the_2d_network_sees():
    model = narrow(fusion=dict(type="CFAM", in_channels=136, channels=16, dropout=0.0)).eval()
    seen = []
    model.backbone_2d.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    clips = torch.randn(1, 3, 8, 64, 64)
    model(clips)
    torch.testing.assert_close(seen[0], clips[:, :, 4])


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_gates_learn_nothing_and_keep_their_statistics(freeze):
    model = narrow(freeze_gates=freeze).train()
    gates = [m for m in model.modules() if isinstance(m, Gate)]
    before = [gate.norm.running_mean.clone() for gate in gates]
    losses = model(torch.randn(2, 3, 8, 64, 64), [sample(), sample()], mode="loss")
    sum(losses.values()).backward()
    same = [torch.equal(g.norm.running_mean, b) for g, b in zip(gates, before, strict=True)]
    assert all(same) if freeze else not any(same)
    learned = [p.grad is not None for gate in gates for p in gate.parameters()]
    assert any(learned) != freeze
    assert all(p.requires_grad for p in model.backbone.mixed_3b.branch_0[0].conv.cheap.parameters())


def test_the_trunk_comes_from_a_recognizer_s_checkpoint(tmp_path):
    init_default_scope("mmaction")
    head = dict(type="I3DHead", num_classes=5, in_channels=128)
    trunk = dict(type="VaRedInceptionI3d", width=0.125)
    recognizer = MODELS.build(dict(type="Recognizer3D", backbone=trunk, cls_head=head))
    for gate in (m for m in recognizer.modules() if isinstance(m, Gate)):
        gate.beta.data.fill_(0.123)
    torch.save({"state_dict": recognizer.state_dict()}, tmp_path / "epoch_1.pth")
    model = narrow(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "epoch_1.pth")))
    model.init_weights()
    wanted = recognizer.backbone.state_dict()
    assert all(
        torch.equal(value, wanted[name]) for name, value in model.backbone.state_dict().items()
    )


FRAME = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 6], [50, 50, 60, 60]]])


@pytest.mark.parametrize(
    ("sure", "labels", "boxes", "true", "right"),
    [
        ((0.9, 0.3, 0.9), (1, 2, 2), [(0, 0, 10, 10)], [1], True),
        ((0.9, 0.3, 0.9), (1, 2, 2), [(0, 0, 10, 10)], [2], False),
        ((0.2, 0.3, 0.9), (1, 2, 2), [(0, 0, 10, 10)], [2], True),
        ((0.9, 0.3, 0.9), (1, 2, 2), [(0, 0, 10, 10), (50, 50, 60, 60)], [1, 2], True),
        ((0.9, 0.3, 0.9), (1, 2, 2), [(0, 0, 10, 10), (80, 80, 90, 90)], [1, 2], False),
        ((0.1, 0.1, 0.1), (1, 2, 2), [(0, 0, 10, 10)], [1], False),
        ((0.9, 0.9, 0.9), (1, 2, 2), [], [], True),
    ],
    ids=["found", "wrong class", "the best box is unsure", "both found", "one missed",
         "nothing sure", "nothing to find"],
)  # fmt: skip
def test_a_frame_is_right_if_every_box_is_found_with_its_class(sure, labels, boxes, true, right):
    truth = InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.tensor(true).long())
    probs = torch.eye(3)[list(labels)][None]
    assert found_right(FRAME, torch.tensor([sure]), probs, [truth]).tolist() == [right]


def test_the_judge_reads_the_pass_that_makes_the_losses():
    model = narrow()
    head = model.bbox_head
    # No box of the anchors' sizes overlaps a single pixel by half.
    samples = [sample((0.0, 0.0, 1.0, 1.0)), sample((), ())]
    (reads, right), answers = matched_box(model), []
    assert reads is head
    handle = Look(reads, lambda module, args, out: answers.append(out))
    model(torch.randn(2, 3, 8, 64, 64), samples, mode="loss")
    handle.remove()
    assert right(answers[-1], samples).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"a bbox_head like RegionHead, which Linear lacks"):
        matched_box(torch.nn.Linear(1, 1))


REFUSED = {
    "a class the head has not": (
        lambda: narrow()(torch.zeros(1, 3, 8, 64, 64), [sample(labels=(3,))], mode="loss"),
        r"the labels \[3\] are not all among the 3 classes",
    ),
    "another mode": (lambda: narrow()(torch.zeros(1, 3, 8, 64, 64), [], mode="test"), "'tensor'"),
    "no samples": (lambda: narrow()(torch.zeros(1, 3, 8, 64, 64), mode="loss"), "data_samples"),
    "grids that differ": (
        lambda: narrow(backbone_2d=dict(type="mmaction.ResNet", depth=18, out_indices=(2,)))(
            torch.zeros(1, 3, 8, 64, 64)
        ),
        r"makes \(2, 2\) cells of the clip and the 2-D network \(4, 4\)",
    ),
    "no class": (lambda: RegionHead(0), "num_classes=0 has to be at least 1"),
    "keep": (lambda: RegionHead(3, keep=2), "keep=2 has to be a number between 0 and 1"),
    "anchors": (lambda: RegionHead(3, anchors=[(0, 1)]), "no list of positive widths"),
    "a negative weight": (lambda: RegionHead(3, loss=dict(object=-1)), "object=-1 has to be 0"),
    "an odd width": (lambda: Darknet19(width=0.3), "multiple of 1/32"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(make, message):
    init_default_scope("mmaction")
    with pytest.raises(ValueError, match=message):
        make()
