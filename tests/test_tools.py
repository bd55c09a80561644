"""The command lines as a user types them, outside the repository, on real video files."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmaction
import pytest
import torch
from command_lines import tool_of

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.report.result import read_result

ROOT = Path(__file__).parents[1]
TRAIN, TEST, FLOPS, INFER, LEADERBOARD = (
    ROOT / "tools" / f"{name}.py" for name in ("train", "test", "get_flops", "infer", "leaderboard")
)

LEAF = """
_base_ = 'vared_mm::demo/{base}.py'
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
load_from = None
model = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=3, **loader,
    dataset=dict(dataset=dict(ann_file='clips/train.txt', data_prefix=dict(video='clips'))))
val_dataloader = dict(
    batch_size=3, **loader,
    dataset=dict(dataset=dict(ann_file='clips/val.txt', data_prefix=dict(video='clips'))))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = []
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best=None))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: 18 clips to train on, 9 to test, a static and a dynamic config."""
    folder = tmp_path_factory.mktemp("user")
    config = MotionClipsConfig(clips_per_class=2, val_clips_per_class=1, frames=16, size=64)
    make_motion_clips(folder / "clips", config)
    for name in ("i3d_motion", "vared_i3d_motion"):
        (folder / f"{name}.py").write_text(LEAF.format(base=name))
    return folder


def command(tool, *options):
    return [sys.executable, str(tool), *map(str, options)]


def run(folder, tool, *options, fails=False):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(tool, *options), cwd=folder, env=environment,
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(folder):
    run(folder, TRAIN, "vared_i3d_motion.py", "--work-dir", "work", "--seed", "3")
    return folder / "work" / "epoch_2.pth"


def test_training_leaves_a_checkpoint_and_a_log_with_the_loss_and_the_share(folder, trained):
    (log,) = (folder / "work").glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [row for row in rows if "loss_efficiency" in row]
    assert len(steps) == 12
    assert all(0 < row["mac_share"] <= 1 for row in steps)
    assert any("acc/top1" in row and "cost/share" in row for row in rows)


def test_a_test_writes_the_accuracy_and_the_cost_of_nine_clips(folder, trained):
    run(folder, TEST, "vared_i3d_motion.py", trained, "--json", "result.json", "--dump", "all.pkl")
    report = json.loads((folder / "result.json").read_text())
    assert report["cost"]["samples"] == 9
    assert len(report["cost"]["layers"]) == 4
    assert 0 <= report["metrics"]["acc/top1"] <= 1
    assert (folder / "all.pkl").exists()
    # It is the record that evaluations are kept in, too.
    result = read_result(folder / "result.json")
    assert (result.task, result.data.samples, result.speed) == ("recognition", 9, None)
    assert result.data.classes == tuple((folder / "clips" / "classes.txt").read_text().split())
    told = run(folder, LEADERBOARD, "result.json", "--format", "csv")
    assert f'vared_i3d_motion,epoch_2,"VideoDataset, 9",1,{result.metrics["acc/top1"]}' in told


def test_infer_prints_and_writes_what_each_video_is_and_cost_and_fails_for_one_it_cannot_read(
    folder, trained
):
    names = (folder / "clips" / "classes.txt").read_text().split()
    options = ("--config", "vared_i3d_motion.py", "--checkpoint", trained)
    options += ("--json", "infer.json", "--classes", "clips/classes.txt")
    videos = sorted((folder / "clips" / "val").iterdir())[:2]
    printed = run(folder, INFER, *videos, "gone.mp4", *options, fails=True)
    rows = json.loads((folder / "infer.json").read_text())
    assert [row["file"] for row in rows] == [*map(str, videos), "gone.mp4"]
    assert rows[2]["error"] == "does not exist"
    for row in rows[:2]:
        (clip,) = row["clips"]
        assert names[clip["label"]] in printed
        assert f"{clip['gmacs']:.3f}" in printed
        # 9 classes: the best has at least a ninth.
        assert clip["score"] >= 1 / 9


def test_the_counter_tells_dense_paper_and_full_from_real_clips(folder, trained):
    config = "vared_i3d_motion.py"
    run(folder, FLOPS, config, "--data", 5, "--checkpoint", trained, "--json", "flops.json")
    report = json.loads((folder / "flops.json").read_text())
    assert report["samples"] == 5
    assert report["params_m"] == pytest.approx(0.2, abs=0.1)
    for name in ("paper_gmacs", "full_gmacs"):
        assert report[name]["min"] <= report[name]["avg"] <= report[name]["max"]
    run(folder, FLOPS, config, "--shape", 16, 48, 48, "--json", "shape.json")
    assert json.loads((folder / "shape.json").read_text())["dense_gmacs"] == report["dense_gmacs"]


def test_mmaction2_s_own_tools_train_and_test_our_configs_unchanged(folder):
    tools = Path(mmaction.__file__).parent / ".mim" / "tools"
    options = ["--cfg-options", "load_from=None", "train_cfg.max_epochs=1"]
    options += [f"{loader}_dataloader.batch_size=6" for loader in ("train", "val", "test")]
    (folder / "data").mkdir()
    (folder / "data" / "motion_clips").symlink_to(folder / "clips")
    config = ROOT / "configs" / "demo" / "vared_i3d_motion.py"
    run(folder, tools / "train.py", config, "--work-dir", "theirs", *options)
    printed = run(folder, tools / "test.py", config, "theirs/epoch_1.pth")
    assert "cost/share" in printed


def test_mmaction2_s_own_tools_find_our_configs_as_a_base(folder):
    tools = Path(mmaction.__file__).parent / ".mim" / "tools"
    # They import us by the config's custom_imports, which come after its bases.
    text = (folder / "vared_i3d_motion.py").read_text()
    base = "__import__('vared_mm').compat.config_path('demo/vared_i3d_motion.py')"
    (folder / "theirs.py").write_text(text.replace("'vared_mm::demo/vared_i3d_motion.py'", base))
    run(folder, tools / "train.py", "theirs.py", "--work-dir", "based")
    assert (folder / "based" / "epoch_2.pth").exists()


def test_a_killed_training_goes_on_from_its_last_checkpoint_to_the_same_end(folder):
    options = ("vared_i3d_motion.py", "--work-dir", "killed", "--cfg-options",
               "train_cfg.max_epochs=4", "train_cfg.val_interval=4")  # fmt: skip
    process = subprocess.Popen(
        command(TRAIN, *options), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for line in process.stdout:
        if "Epoch(train) [3][2/6]" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait(timeout=60)
    work = folder / "killed"
    assert (work / "last_checkpoint").read_text().endswith("epoch_2.pth")
    assert not (work / "epoch_4.pth").exists()

    printed = run(folder, TRAIN, *options[:3], "--resume", *options[3:])
    assert "resumed epoch: 2, iter: 12" in printed
    assert "Epoch(train) [1]" not in printed
    assert "Epoch(train) [3][1/6]" in printed
    assert "Epoch(val) [4]" in printed
    checkpoint = torch.load(work / "epoch_4.pth", weights_only=True)
    assert checkpoint["meta"]["iter"] == 24


def test_two_processes_train_and_test_through_the_shell_scripts(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PORT": str(29000 + os.getpid() % 900)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for script, *options in (
        ("dist_train.sh", "vared_i3d_motion.py", "2", "--work-dir", "two"),
        ("dist_test.sh", "vared_i3d_motion.py", "two/epoch_2.pth", "2", "--json", "two.json"),
    ):
        done = subprocess.run(
            ["bash", str(ROOT / "tools" / script), *options], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    run(folder, TEST, "vared_i3d_motion.py", "two/epoch_2.pth", "--json", "one.json")
    two, one = (json.loads((folder / f"{name}.json").read_text()) for name in ("two", "one"))
    assert two["cost"]["samples"] == 9
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-6)


def test_a_missing_video_stops_the_training_by_name_or_is_skipped_on_request(folder):
    listed = (folder / "clips" / "train.txt").read_text()
    (folder / "more.txt").write_text("gone.mp4 0\n" + listed)
    inner = "dict(type='VideoDataset', ann_file='more.txt', data_prefix=dict(video='clips'))"
    for broken in ("raise", "skip"):
        (folder / f"{broken}.py").write_text(
            "_base_ = 'vared_i3d_motion.py'\n"
            f"train_dataloader = dict(dataset=dict(broken='{broken}', dataset={inner}))\n"
            "train_cfg = dict(max_epochs=1)\n"
        )
    printed = run(folder, TRAIN, "raise.py", fails=True)
    assert "BrokenVideoError: clips/gone.mp4 does not exist; take it out" in printed
    printed = run(folder, TRAIN, "skip.py")
    assert "skipped clips/gone.mp4, which does not exist; 1 of 19 videos so far" in printed


def test_the_model_of_the_readme_is_built_with_its_runner(folder):
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    (folder / "readme.py").write_text(blocks[0].split("```")[0])
    program = (
        "import vared_mm; from mmengine.config import Config; from mmengine.runner import Runner\n"
        "config = Config.fromfile('readme.py'); config.work_dir = 'readme'\n"
        "runner = Runner.from_cfg(config)\n"
        "print(type(runner.model.backbone), [type(h).__name__ for h in runner.hooks])\n"
    )
    (folder / "program.py").write_text(program)
    printed = run(folder, folder / "program.py")
    assert "ResNet3dSlowOnly" in printed
    assert "'EfficiencyLossHook'" in printed


def test_what_does_not_exist_is_named(folder):
    assert "there is no config file none.py" in run(folder, TRAIN, "none.py", fails=True)
    printed = run(folder, TEST, "vared_i3d_motion.py", "none.pth", fails=True)
    assert "there is no checkpoint none.pth" in printed
    printed = run(folder, FLOPS, "vared_i3d_motion.py", fails=True)
    assert "give either --shape T H W (H W for images) or --data N" in printed
    assert "there is no config file none.py" in run(
        folder, FLOPS, "none.py", "--shape", 16, 48, 48, fails=True
    )


@pytest.mark.parametrize("tool", sorted(p.name for p in (ROOT / "tools").glob("*.py")))
def test_every_tool_helps(folder, tool):
    start = time.time()
    assert "usage:" in run(folder, ROOT / "tools" / tool, "--help")
    assert time.time() - start < 60


def test_predictions_that_cannot_be_kept_leave_no_half_file(tmp_path):
    dump = tool_of("test").WholeDump(out_file_path=str(tmp_path / "all.pkl"))
    dump.compute_metrics([1, 2])
    assert pickle.loads((tmp_path / "all.pkl").read_bytes()) == [1, 2]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        dump.compute_metrics([3, lambda: 4])
    assert [file.name for file in tmp_path.iterdir()] == ["all.pkl"]
    assert pickle.loads((tmp_path / "all.pkl").read_bytes()) == [1, 2]
