"""Two processes do what one does: training, test, taught gates, pruning, another budget."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy

SCRIPT = Path(__file__).with_name("distributed_run.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of one process and of two."""
    told = []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp("run")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={processes}", "--max-restarts=2", str(SCRIPT), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-6000:]
        told.append(json.loads((folder / "result.json").read_text()))
    return told


def test_two_processes_train_and_evaluate_as_one(results):
    one, two = results
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-6)
    assert two["summary"] == one["summary"]
    assert one["summary"]["samples"] == toy.CLIPS
    assert one["summary"]["share"]["min"] < one["summary"]["share"]["max"]
    assert two["beta"] == pytest.approx(one["beta"], abs=1e-5)
    assert one["beta"][0] < 0.7


def test_taught_gates_stay_alike_in_both_processes_and_so_they_are_saved(results):
    assert all(result["alike"] and result["saved"] for result in results)


def test_both_processes_prune_the_same_weights_as_one_does(results):
    (alone,), (first, second) = (result["zeros"] for result in results)
    assert first == second == alone
    assert 300 < sum(alone) < len(alone) == 864


def test_both_processes_find_the_shift_that_one_does_and_each_runs_half_of_the_clips(results):
    ((shift, share, clips),) = results[0]["budget"]
    for of_each in results[1]["budget"]:
        assert of_each == [shift, pytest.approx(share), clips / 2]
    assert abs(share - 0.7) < 0.1
    for result in results:
        assert result["moved"] == pytest.approx([shift, 0, shift, 0], abs=1e-6)
