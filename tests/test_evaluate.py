"""An evaluation tells what tools/test.py tells, also where it is shared out."""

import copy
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import tool_of
from evaluations import job, toy_config, weights
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from results_by_hand import result_of, samples_of
from test_localization_run import small
from test_segmentation_run import DYNAMIC
from torch import nn

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes
from vared_mm.datasets.scenes import ScenesConfig, make_scenes
from vared_mm.engine import CostHook
from vared_mm.fast.benchmark import Settings
from vared_mm.flops import build_model
from vared_mm.report.comparison import common_accuracy
from vared_mm.report.evaluation import evaluate, resumable
from vared_mm.report.evaluation_key import weights_digest
from vared_mm.report.evaluation_loop import chunks_of, packed_results
from vared_mm.report.evaluation_samples import right_label, task_of
from vared_mm.report.evaluation_speed import speeds
from vared_mm.report.policies import KEPT
from vared_mm.report.result import read_result, read_samples

EVALUATE = Path(__file__).parents[1] / "tools" / "evaluate.py"
tool = tool_of("evaluate")
CLIPS = """
_base_ = 'vared_mm::demo/vared_i3d_motion.py'
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='ViewScoresHook'), dict(type='CostHook')]
load_from = None
model = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))
test_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(dataset=dict(
        ann_file='{folder}/clips/val.txt', data_prefix=dict(video='{folder}/clips'))))
test_evaluator = [dict(type='AccMetric'), dict(type='ViewAccuracy'), dict(type='CostMetric')]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """9 clips, 8 key frames and 5 scenes, of which each the smallest there are."""
    folder = tmp_path_factory.mktemp("data")
    make_motion_clips(
        folder / "clips",
        MotionClipsConfig(clips_per_class=1, val_clips_per_class=1, frames=16, size=64),
    )
    make_motion_tubes(
        folder / "tubes",
        MotionTubesConfig(("grow", "still", "move_left", "move_right"), 1, 0, frames=8, size=64),
    )
    make_scenes(folder / "scenes", ScenesConfig(train=1, val=5, size=64, most=4))
    (folder / "clips.py").write_text(CLIPS.format(folder=folder))
    return folder


def recognition(folder):
    return Config.fromfile(folder / "clips.py")


def localization(folder):
    config = small(folder, dynamic=True)
    config.test_dataloader.batch_size = 2
    return config


def segmentation(folder):
    config = Config.fromfile(DYNAMIC)
    config.test_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.test_dataloader.dataset.data_root = str(folder / "scenes")
    return config


def plain_test(config, checkpoint, work_dir):
    """What tools/test.py does."""
    config = copy.deepcopy(config)
    config.load_from, config.work_dir = str(checkpoint), str(work_dir)
    config.experiment_name = uuid.uuid4().hex
    if "visualizer" in config:
        config.visualizer.name = config.experiment_name
    return Runner.from_cfg(config).test()


@pytest.mark.parametrize("make", [recognition, localization, segmentation])
def test_chunk_by_chunk_it_tells_the_numbers_of_the_plain_test(folder, tmp_path, make):
    config = make(folder)
    checkpoint = weights(config, tmp_path / "w.pth")
    wanted = plain_test(config, checkpoint, tmp_path / "plain")
    _, result = evaluate(config, job(tmp_path, checkpoint, deals=1))
    assert {k: pytest.approx(v, abs=0, nan_ok=True) for k, v in wanted.items()} == {
        k: np.nan if v is None else v for k, v in result.metrics.items()
    }
    assert (result.task, result.training) == (make.__name__, {"train_cfg.max_epochs": 3})
    assert result.weights == weights_digest(build_model(config, str(checkpoint)).state_dict())
    assert common_accuracy([result]) in wanted, "what pictures and tables judge by is measured"
    assert wanted["cost/full_gmacs_min"] < wanted["cost/full_gmacs_max"]

    home = job(tmp_path, checkpoint).folder
    assert read_result(home).metrics == result.metrics
    samples = read_samples(home)
    assert len(samples) == result.data.samples > 4
    assert len(list((home / "chunks").glob("*/*.pt"))) == -(-len(samples) // 4)
    assert samples.share.mean() == pytest.approx(wanted["cost/share"])
    assert samples.full_gmacs.max() == pytest.approx(wanted["cost/full_gmacs_max"])
    weighted = (samples.layer_share * samples.layer_dense).sum(1) / samples.layer_dense.sum(1)
    np.testing.assert_allclose(weighted, samples.share)
    assert len(samples.policies.answers) == min(result.choices["policies"], KEPT) > 1
    assert result.choices["judged"]["own"] == pytest.approx(samples.correct.mean())
    assert np.isfinite(samples.loss).all()
    if make is recognition:
        assert samples.correct.mean() == pytest.approx(wanted["acc/top1"])
        assert samples.label.tolist() == list(range(9))
        assert result.data.classes == tuple((folder / "clips/classes.txt").read_text().split())
        assert all(Path(file).is_file() for file in samples.file)
    if make is segmentation:
        # Images of one size without void: MMSegmentation rounds to two digits.
        assert 100 * samples.correct.mean() == pytest.approx(wanted["aAcc"], abs=0.006)


def test_scores_that_are_no_numbers_end_an_evaluation(tmp_path):
    config = toy_config(tmp_path)
    state = torch.load(weights(config, tmp_path / "w.pth"))["state_dict"]
    state["cls_head.bias"].fill_(torch.nan)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"pred\w* of sample 0 of batch 0 holds NaN or infinite"):
        evaluate(config, job(tmp_path, tmp_path / "w.pth"))
    assert right_label(dict(gt_label=torch.tensor([0]), pred_score=torch.tensor([torch.nan, 1])))[
        :2
    ] == (0, -1)


def test_two_processes_tell_what_one_tells(tmp_path):
    config = toy_config(tmp_path, custom_imports=dict(imports=["vared_mm", "toy"]))
    config.dump(tmp_path / "net.json")
    checkpoint = weights(config, tmp_path / "w.pth")
    alone = evaluate(config, job(tmp_path, checkpoint, chunk=2, deals=2))[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(EVALUATE), "net.json", "w.pth", "--chunk=2", "--no-speed", "--out=two",
         "--choices", "--deals=2", "--launcher=pytorch"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (two,) = (tmp_path / "two").rglob("result.json")
    together = read_result(two)
    assert alone.cost["share"]["min"] < alone.cost["share"]["max"]
    assert together.metrics == alone.metrics
    assert together.cost == alone.cost
    assert together.choices["judged"] == alone.choices["judged"] is not None
    one = read_samples(job(tmp_path, checkpoint).folder)
    for left, right in zip(vars(one).values(), vars(read_samples(two)).values(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_speed_is_that_of_both_networks_on_one_view_of_each_video(folder):
    config = recognition(folder)
    model = build_model(config)
    settings = Settings(
        None, shares=("data",), batches=(2,), engines=("plain",), repeats=3, warm_up=1
    )
    told = speeds(model, config, settings)
    for network in ("static", "dynamic"):
        assert 0 < told[network]["low"] <= told[network]["median"] <= told[network]["high"]
    assert told["conditions"]["engine"] == "plain"
    assert told["conditions"]["shape"] == [2, 1, 3, 16, 48, 48]


def test_what_counts_is_added_to_a_config_without_hooks_and_cost(tmp_path):
    config = toy_config(tmp_path)
    config.model.dynamic = None
    config.custom_hooks, config.test_evaluator = [], dict(type="ToyAccuracy")
    checkpoint = weights(config, tmp_path / "w.pth")
    result = evaluate(config, job(tmp_path, checkpoint))[1]
    assert result.cost["share"] == {"avg": 1.0, "min": 1.0, "max": 1.0}
    assert not result.dynamic
    # Convolutions of 2 to 4, 4 to 8 by 27 taps and 8 to 8, the scale and shift of 8, a head for 3.
    assert result.parameters == (8 + 4) + (864 + 8) + 16 + (64 + 8) + (24 + 3)
    samples = read_samples(job(tmp_path, checkpoint).folder)
    assert samples.layer_share.shape == (10, 0)
    assert samples.share.tolist() == [1] * 10


def test_what_a_config_names_by_scope_or_class_is_not_added_again(tmp_path):
    config = toy_config(tmp_path)
    config.custom_hooks = [dict(type=CostHook), dict(type="mmengine.ProgressBarHook")]
    config.test_evaluator = [dict(type="mmaction.CostMetric")]
    config.test_cfg = dict(type="mmengine.TestLoop")
    checkpoint = weights(config, tmp_path / "w.pth")
    made = resumable(config, job(tmp_path, checkpoint), tmp_path)
    assert len(made.test_evaluator) == 1
    assert [entry.type for entry in made.custom_hooks][2:] == ["FiniteScoresHook"]
    assert made.test_cfg.type == "ResumableTestLoop"


@pytest.mark.parametrize(("samples", "size", "batch", "ends"), [
    (9, 4, 2, [4, 8, 9]), (9, 4, 3, [6, 9]), (4, 4, 1, [4]), (1, 64, 12, [1]),
])  # fmt: skip
def test_chunks_are_whole_batches_and_cover_all(samples, size, batch, ends):
    chunks = chunks_of(samples, size, batch)
    assert [chunk.stop for chunk in chunks] == ends
    assert [k for chunk in chunks for k in chunk] == list(range(samples))


def test_the_next_checkpoint_loads_as_the_first_did():
    # One of a training holds mmengine's HistoryBuffer, which a cure allows.
    allowed = set(map(str, torch.serialization.get_safe_globals()))
    assert any("HistoryBuffer" in one for one in allowed)
    packed_results([])
    assert set(map(str, torch.serialization.get_safe_globals())) == allowed


class Odd:
    pass


@METRICS.register_module()
class OddMetric(BaseMetric):
    default_prefix = "odd"

    def process(self, data_batch, data_samples):
        self.results.append(Odd())

    def compute_metrics(self, results):
        return {}


def no_samples(config):
    config.test_dataloader.dataset = dict(type="Listed", samples=[])


def no_loader(config):
    config.pop("test_dataloader")


def odd_metric(config):
    config.test_evaluator = [dict(type="OddMetric")]


def other_loop(config):
    config.test_cfg = dict(type="MyLoop")


def label_8(config):
    config.test_dataloader.dataset = dict(type="Listed", samples=[dict(label=8)])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_samples, "the Listed is empty; see ann_file and data_prefix"),
        (no_loader, "net.py has no test_dataloader, which tells what to evaluate on"),
        (odd_metric, r"OddMetric, CostMetric gather cannot be kept safely, for it holds .*Odd"),
        (other_loop, "test_cfg has a MyLoop; wanted TestLoop"),
        (label_8, "a sample has label 8, and there are 2 names of classes; give all of them"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(tmp_path, break_it, message):
    config = toy_config(tmp_path)
    checkpoint = weights(config, tmp_path / "w.pth")
    break_it(config)
    with pytest.raises(ValueError, match=message):
        evaluate(config, job(tmp_path, checkpoint, classes=("a", "b")))


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match="wanted a model with a cls_head, .*; Linear has none"):
        task_of(nn.Linear(1, 1), "mmaction")


def test_a_metric_that_is_no_number_is_told_as_none(tmp_path, capsys):
    samples = samples_of(["a.mp4"], [0], [], np.ones(1))
    result = result_of(samples, metrics={"mIoU": 61.25, "mAcc": float("nan")})
    tool_of("evaluate").tell(result, tmp_path)
    assert capsys.readouterr().out.splitlines()[1:3] == ["  mIoU 61.25", "  mAcc none"]


def test_a_missing_checkpoint_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "net.py", "nowhere.pth"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "there is no file nowhere.pth" in capsys.readouterr().err
