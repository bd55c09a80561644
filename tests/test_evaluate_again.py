"""An evaluation that is run again takes what is still so, and nothing else."""

import os
from dataclasses import replace

import pytest
import toy
from evaluations import job, toy_config, weights

from vared_mm.report.evaluation import evaluate
from vared_mm.report.result import read_result, write_result


@pytest.fixture
def counted(monkeypatch):
    """The batches that the toy has run; at the number `fail_at` it is interrupted."""

    class Count:
        batches, fail_at = 0, None

    step = toy.ToyRecognizer.test_step

    def counting(self, data):
        if Count.batches == Count.fail_at:
            raise KeyboardInterrupt
        Count.batches += 1
        return step(self, data)

    monkeypatch.setattr(toy.ToyRecognizer, "test_step", counting, raising=False)
    return Count


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path, counted):
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    whole = evaluate(config, job(tmp_path / "whole", checkpoint))[1]
    assert counted.batches == 5
    counted.batches, counted.fail_at = 0, 3  # in the second chunk of two batches
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, job(tmp_path, checkpoint))
    counted.fail_at = None
    result = evaluate(config, job(tmp_path, checkpoint))[1]
    assert counted.batches == 3 + 3
    assert result.metrics == whole.metrics
    assert result.cost == whole.cost
    # All is there by now, and is told again without running anything.
    again = evaluate(config, job(tmp_path, checkpoint))[1]
    assert (counted.batches, again.metrics) == (6, result.metrics)


def other_data(config):
    config.test_dataloader.dataset.indices = 9


def other_metric(config):
    config.test_evaluator = [dict(type="ToyAccuracy", prefix="toy")]


def other_model(config):
    config.model.loss_weight = 2.0


def test_a_damaged_chunk_is_made_again(tmp_path, counted):
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    whole = evaluate(config, job(tmp_path, checkpoint))[1]
    first, second, _ = sorted((job(tmp_path, checkpoint).folder / "chunks").glob("*/*.pt"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-1])
    again = evaluate(config, job(tmp_path, checkpoint))[1]
    assert counted.batches == 5 + 4
    assert again.metrics == whole.metrics


@pytest.mark.parametrize("change", [other_data, other_metric, other_model])
def test_chunks_of_another_data_set_or_setting_are_not_mixed_in(tmp_path, counted, change):
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    evaluate(config, job(tmp_path, checkpoint))
    change(config)
    other = evaluate(config, job(tmp_path, checkpoint))[1]
    assert counted.batches == 10
    assert other.data.samples == (9 if change is other_data else 10)
    chunks = job(tmp_path, checkpoint).folder / "chunks"
    assert len(list(chunks.iterdir())) == 1, "what no result stands on is removed"


def test_chunks_of_key_frames_of_a_video_that_was_exchanged_are_not_mixed_in(
    tmp_path, counted, monkeypatch
):
    (tmp_path / "v.mp4").touch()
    file = {"video": "v", "filename": str(tmp_path / "v.mp4")}
    monkeypatch.setattr(toy.ToyClips, "get_data_info", lambda self, i: {**file, "frame": i + 1})
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    evaluate(config, job(tmp_path, checkpoint))
    os.utime(tmp_path / "v.mp4", (1, 1))
    evaluate(config, job(tmp_path, checkpoint))
    assert counted.batches == 10


def test_a_checkpoint_that_is_overwritten_is_evaluated_anew_in_the_place_of_the_old(
    tmp_path, counted
):
    config = toy_config(tmp_path)
    old = evaluate(config, job(tmp_path, weights(config, tmp_path / "w.pth")))[1]
    new = evaluate(config, job(tmp_path, weights(config, tmp_path / "w.pth", seed=1)))[1]
    assert counted.batches == 10
    assert new.cost["share"] != old.cost["share"]
    (left,) = (tmp_path / "out").rglob("result.json")
    assert read_result(left).cost == new.cost


SPEED = {"static": {"median": 5.0, "low": 4.0, "high": 6.0}, "conditions": {"batch": 8}}


@pytest.mark.parametrize("change", [None, other_data, other_metric, other_model, "weights", "gpu"])
def test_the_speed_is_kept_where_the_same_is_evaluated_again_without_it(tmp_path, change):
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    former = evaluate(config, job(tmp_path, checkpoint))[1]
    place = {"device": "a GPU"} if change == "gpu" else {}
    write_result(job(tmp_path, checkpoint).folder, replace(former, speed=SPEED, **place))
    if change == "weights":
        weights(config, checkpoint, seed=1)
    elif callable(change):
        change(config)
    again = evaluate(config, job(tmp_path, checkpoint))[1]
    assert again.speed == (None if change else SPEED)
    assert read_result(job(tmp_path, checkpoint).folder) == again


def test_checkpoints_of_one_name_and_options_have_folders_of_their_own(tmp_path):
    one, two = tmp_path / "w.pth", tmp_path / "b" / "w.pth"
    tasks = [
        job(tmp_path, one),
        job(tmp_path, two),
        replace(job(tmp_path, one), options={"a": 1}),
    ]
    assert len({each.folder for each in tasks}) == 3
    assert {each.folder.parent for each in tasks} == {tmp_path / "out" / "net"}
