"""Test-time augmentation of images, from the evaluation to its pictures."""

import cv2
import numpy as np
import pytest
import torch
from two_scenes import augmented

from vared_mm.engine.check_labels_hook import flat
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.report.evaluated_clips import EvaluatedClips
from vared_mm.report.evaluation import Evaluation, evaluate
from vared_mm.report.result import read_samples


def test_what_is_augmented_is_evaluated_and_shown_by_its_first_view(tmp_path):
    file, checkpoint = tmp_path / "augmented.py", tmp_path / "net.pth"
    augmented(tmp_path).dump(file)
    config = config_of(str(file))
    # Its hooks look at the labels of each view.
    assert "labels" in config.default_hooks
    torch.save({"state_dict": build_model(config).state_dict()}, checkpoint)
    job = Evaluation(str(file), {}, checkpoint, tmp_path / "out")
    result = evaluate(config, job)[1]
    assert result.task == "segmentation"
    samples = read_samples(job.folder)
    # Of the views' scores MMSegmentation keeps those of the last alone.
    np.testing.assert_array_equal(samples.loss, 1 - samples.correct)
    clips = EvaluatedClips(result, samples)
    strip = clips.strip(0, "most")
    np.testing.assert_array_equal(strip.frames[0], cv2.imread(strip.file)[..., ::-1])
    kept = clips.maps(0, r".*layer4\.0.*")
    assert [maps.name for maps in kept] == [f"backbone.layer4.0.conv{i}" for i in (1, 2)]


@pytest.mark.parametrize("samples", [["a", "b"], [("a",), ("b",)], [["a", "b"]]])
def test_samples_of_a_batch_are_found_in_those_of_each_augmentation(samples):
    assert list(flat(samples)) == ["a", "b"]
