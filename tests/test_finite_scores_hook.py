"""A test ends where a model's answers are no numbers; truth may hold what it likes."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from vared_mm.engine import FiniteScoresHook
from vared_mm.engine.finite_scores_hook import NotFiniteError, not_finite

NAN, INFINITY = torch.tensor([0.5, torch.nan]), torch.tensor([torch.inf])


def sample(metainfo=None, **fields):
    return BaseDataElement(metainfo=metainfo, **fields)


@pytest.mark.parametrize(("odd", "message"), [
    (sample(dict(filename="a.mp4"), pred_score=NAN), "pred_score of a.mp4 holds NaN or infinite"),
    (sample(pred_instances=sample(scores=INFINITY)), "pred_instances.scores of sample 1 of ba.* 3"),
    (sample(dict(img_path="b.jpg"), seg_logits=sample(data=NAN)), "seg_logits.data of b.jpg"),
    (dict(pred_scores=dict(item=NAN)), "pred_scores.item of sample 1"),
])  # fmt: skip
def test_answers_that_are_no_numbers_are_named(odd, message):
    with pytest.raises(NotFiniteError, match=message):
        FiniteScoresHook().after_test_iter(None, 3, outputs=[sample(), odd])


def test_numbers_and_truth_pass():
    good = sample(gt_score=NAN, pred_label=torch.tensor([1]), pred_score=torch.tensor([0.5]))
    assert list(not_finite(good)) == []
    assert list(not_finite(sample(pred_score=NAN))) == ["pred_score"]
    FiniteScoresHook().after_test_iter(None, 0, outputs=[good, {"gt": NAN}, None])
    FiniteScoresHook().after_test_iter(None, 0)
