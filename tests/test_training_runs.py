"""Trainings that others' tools start, that are killed, or whose videos are missing."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import mmaction
import pytest
import torch
from command_lines import tool_of
from mmengine.config import Config
from mmengine.runner import Runner
from users_folder import ENVIRONMENT, ROOT, TRAIN, command, fill, run

from vared_mm.launch import alone_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("user"))


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


def test_a_config_is_a_base_before_anything_of_ours_is_imported(folder):
    # As in the toolboxes' own tools: custom_imports come after the bases.
    text = (folder / "vared_i3d_motion.py").read_text()
    base = "__import__('vared_mm').compat.config_path('demo/vared_i3d_motion.py')"
    (folder / "theirs.py").write_text(text.replace("'vared_mm::demo/vared_i3d_motion.py'", base))
    program = "from mmengine.config import Config; print(Config.fromfile('theirs.py').model)"
    (folder / "program.py").write_text(program)
    assert "VaRedInceptionI3d" in run(folder, folder / "program.py")


def test_a_killed_training_goes_on_from_its_last_checkpoint_to_the_same_end(folder):
    options = ("vared_i3d_motion.py", "--work-dir", "killed", "--cfg-options",
               "train_cfg.max_epochs=3", "train_cfg.val_interval=3")  # fmt: skip
    process = subprocess.Popen(
        command(TRAIN, *options), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=ENVIRONMENT,
    )  # fmt: skip
    for line in process.stdout:
        if "Epoch(train) [3][2/6]" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait(timeout=60)
    work = folder / "killed"
    assert (work / "last_checkpoint").read_text().endswith("epoch_2.pth")
    assert not (work / "epoch_3.pth").exists()

    printed = run(folder, TRAIN, *options[:3], "--resume", *options[3:])
    assert "resumed epoch: 2, iter: 12" in printed
    assert "Epoch(train) [1]" not in printed
    assert "Epoch(train) [3][1/6]" in printed
    assert "Epoch(val) [3]" in printed
    checkpoint = torch.load(work / "epoch_3.pth", weights_only=True)
    assert checkpoint["meta"]["iter"] == 18


def test_an_interrupted_training_says_so_in_a_line_and_keeps_its_last_checkpoint(folder):
    # So long that it does not end before it hears.
    options = ("vared_i3d_motion.py", "--work-dir", "interrupted", "--cfg-options",
               "train_cfg.max_epochs=99", "train_cfg.val_interval=99")  # fmt: skip
    process = subprocess.Popen(
        command(TRAIN, *options), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=ENVIRONMENT,
        # A shell lets what it starts in the background ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    for line in process.stdout:
        if "[2][2/6]" in line:
            process.send_signal(signal.SIGINT)
            break
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.splitlines()[-1:]) == (130, ["interrupted"])
    assert "Traceback" not in told
    last = Path((folder / "interrupted" / "last_checkpoint").read_text())
    assert "state_dict" in torch.load(folder / last, weights_only=True)


def test_two_trainings_in_one_folder_would_mix_their_checkpoints(folder, monkeypatch):
    first = (
        "from vared_mm.launch import alone_in\nwith alone_in('both'): print(flush=True); input()"
    )
    (folder / "both").mkdir()
    (folder / "both" / "vared_i3d_motion.py").write_text("the first one's")
    monkeypatch.chdir(folder)
    options = ["--work-dir", "both", "--cfg-options", "train_cfg.max_epochs=1"]
    monkeypatch.setattr(sys, "argv", ["train.py", "vared_i3d_motion.py", *options])
    with subprocess.Popen(
        [sys.executable, "-c", first], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
    ) as process:
        process.stdout.readline()
        with pytest.raises(SystemExit, match="another process trains in .*both; wait for its end"):
            tool_of("train").main()
        process.kill()
    # Neither checkpoints nor logs, and the config is that of the first.
    left = sorted(path.name for path in (folder / "both").iterdir())
    assert left == ["in_training", "vared_i3d_motion.py"]
    assert (folder / "both" / "vared_i3d_motion.py").read_text() == "the first one's"
    with alone_in("both"):
        pass


@pytest.mark.parametrize("scale", [None, dict(base_batch_size=0), dict(base_batch_size="8")])
def test_a_learning_rate_that_cannot_be_scaled_is_told_of(tmp_path, monkeypatch, capsys, scale):
    (tmp_path / "a.py").write_text(f"auto_scale_lr = {scale}")
    monkeypatch.setattr(sys, "argv", ["train.py", str(tmp_path / "a.py"), "--auto-scale-lr"])
    with pytest.raises(SystemExit):
        tool_of("train").main()
    assert "needs auto_scale_lr.base_batch_size in the config, from 1" in capsys.readouterr().err


def trained_by(folder, monkeypatch, text, *options):
    """The config that the tool trains by."""
    (folder / "a.py").write_text(text)
    monkeypatch.setattr(sys, "argv", ["train.py", str(folder / "a.py"), *options])
    monkeypatch.chdir(folder)
    tool, found = tool_of("train"), []
    runner = SimpleNamespace(from_cfg=lambda config: found.append(config) or Mock())
    monkeypatch.setattr(tool, "TrainingRunner", runner)
    tool.main()
    return found[0]


@pytest.mark.parametrize(("text", "options", "wanted"), [
    ("resume = True", [], "copy/epoch_2.pth"),
    ("load_from = 'static.pth'", ["--resume"], "copy/epoch_2.pth"),
    # As mmengine takes it.
    ("resume = True\nload_from = 'epoch_1.pth'", [], "epoch_1.pth"),
    ("resume = True", ["--resume", "epoch_1.pth"], "epoch_1.pth"),
])  # fmt: skip
def test_a_config_that_resumes_goes_on_as_by_the_option(
    tmp_path, monkeypatch, text, options, wanted
):
    for folder in ("old", "copy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "epoch_2.pth").touch()
        (tmp_path / folder / "last_checkpoint").write_text(str(tmp_path / "old" / "epoch_2.pth"))
    config = trained_by(tmp_path, monkeypatch, text, *options, "--work-dir", "copy")
    assert (config.resume, config.load_from) == (True, wanted)


def test_a_runner_that_would_be_passed_over_is_refused(tmp_path, monkeypatch):
    text = "runner_type = 'FlexibleRunner'\nstrategy = dict(type='FSDPStrategy')"
    with pytest.raises(SystemExit, match="runner_type is FlexibleRunner, and this trains by mmeng"):
        trained_by(tmp_path, monkeypatch, text)
    assert trained_by(tmp_path, monkeypatch, "runner_type = 'Runner'").runner_type == "Runner"


def test_a_missing_video_stops_the_training_by_name_or_is_skipped_on_request(folder, monkeypatch):
    listed = (folder / "clips" / "train.txt").read_text()
    (folder / "more.txt").write_text("gone.mp4 0\n" + listed)
    inner = "dict(type='VideoDataset', ann_file='more.txt', data_prefix=dict(video='clips'))"
    for broken in ("raise", "skip"):
        (folder / f"{broken}.py").write_text(
            "_base_ = 'vared_i3d_motion.py'\n"
            f"train_dataloader = dict(dataset=dict(broken='{broken}', dataset={inner}))\n"
            "train_cfg = dict(max_epochs=1)\n"
        )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", "raise.py"])
    with pytest.raises(SystemExit, match="^error: clips/gone.mp4 does not exist; take it out"):
        tool_of("train").main()
    printed = run(folder, TRAIN, "skip.py")
    assert "skipped clips/gone.mp4, which does not exist; 1 of 19 videos so far" in printed


def test_the_model_of_the_readme_is_built_with_its_runner(folder, monkeypatch):
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    (folder / "readme.py").write_text(blocks[0].split("```")[0])
    monkeypatch.chdir(folder)
    config = Config.fromfile("readme.py")
    config.work_dir = "readme"
    runner = Runner.from_cfg(config)
    assert type(runner.model.backbone).__name__ == "ResNet3dSlowOnly"
    assert "EfficiencyLossHook" in {type(hook).__name__ for hook in runner.hooks}
