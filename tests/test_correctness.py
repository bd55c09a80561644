"""Judges of which samples are right."""

from types import SimpleNamespace

import pytest
import torch
import toy
from torch import nn

from vared_mm.engine.correctness import fuse, judged, right_labels, top1


def test_a_model_without_a_head_is_told_of_the_other_judges():
    message = r"cls_head, which Linear lacks; choose .*'always'"
    with pytest.raises(ValueError, match=message):
        top1(nn.Linear(1, 1))


def test_right_labels_by_hand():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    indices = [torch.tensor([1]), torch.tensor([1]), torch.tensor([0]), torch.tensor([0])]
    assert right_labels(scores, indices).tolist() == [True, False, True, False]
    soft = [torch.tensor([0.3, 0.7]), torch.tensor([0.3, 0.7])]
    assert right_labels(scores[:2], soft).tolist() == [True, False]
    two_views = right_labels(scores, [torch.tensor([1]), torch.tensor([0])])
    assert two_views.tolist() == [False, False]


def test_a_sample_of_several_labels_loses_what_its_head_is_trained_by():
    from mmaction.models import I3DHead

    head = I3DHead(3, 4, loss_cls=dict(type="BCELossWithLogits"), multi_class=True)
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    samples = [SimpleNamespace(gt_label=torch.tensor(row)) for row in ([1.0, 1, 0], [0.0, 0, 0])]
    found = top1(SimpleNamespace(cls_head=head)).losses(scores, samples)
    each = [head.loss_by_feat(scores[i : i + 1], samples[i : i + 1])["loss_cls"] for i in (0, 1)]
    assert found.tolist() == pytest.approx([float(loss) for loss in each])
    # Without a label a softmax would lose nothing: here (log 2 + log(1 + e³) + log(1 + e)) / 3.
    assert found[1].item() == pytest.approx((0.6931 + 3.0486 + 1.3133) / 3, abs=1e-4)


def test_the_scores_of_several_modalities_are_judged_by_the_mean_of_their_softmax():
    rgb, pose = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, 0.0]])
    # Softmax of class 0: 0.05 and 0.73, 0.39 on average.
    assert right_labels(fuse(dict(rgb=rgb, pose=pose)), [torch.tensor([1])]).tolist() == [True]
    with pytest.raises(ValueError, match="choose correct='always'|Choose correct='always'"):
        fuse([rgb])


def test_a_judge_whose_module_was_not_asked_says_what_to_choose():
    judge = top1(toy.ToyRecognizer())
    with pytest.raises(ValueError, match="Head answers, which the model did not call"):
        judged(judge, [], [[None]])


def test_a_head_that_is_asked_twice_for_one_batch_is_no_judge_s():
    judge = top1(SimpleNamespace(cls_head=nn.Identity()))
    with pytest.raises(ValueError, match=r"called it 2 times for 1.*Choose correct='always'"):
        judged(judge, [torch.eye(2), torch.eye(2)], [[None, None]])
