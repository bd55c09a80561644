"""The command lines as a user types them, outside the repository, on real video files."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import tool_of
from users_folder import ENVIRONMENT, ROOT, TEST, TRAIN, fill, run

from vared_mm.report.evaluated_model import evaluated_config
from vared_mm.report.result import read_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def trained(folder):
    run(folder, TRAIN, "vared_i3d_motion.py", "--work-dir", "work", "--seed", "3")
    return folder / "work" / "epoch_2.pth"


@pytest.fixture(scope="module")
def tested(folder, trained):
    told = ("--json", "result.json", "--dump", "all.pkl", "--seed", "7")
    run(folder, TEST, "vared_i3d_motion.py", trained, *told)
    return json.loads((folder / "result.json").read_text())


@pytest.fixture
def here(folder, monkeypatch):
    """Calls a tool in this process, from the user's folder."""

    def call(tool, *options):
        monkeypatch.setattr(sys, "argv", [f"{tool}.py", *map(str, options)])
        tool_of(tool).main()

    monkeypatch.chdir(folder)
    return call


def test_training_leaves_a_checkpoint_and_a_log_with_the_loss_and_the_share(folder, trained):
    (log,) = (folder / "work").glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [row for row in rows if "loss_efficiency" in row]
    assert len(steps) == 12
    assert all(0 < row["mac_share"] <= 1 for row in steps)
    assert any("acc/top1" in row and "cost/share" in row for row in rows)


def test_a_test_writes_the_accuracy_and_the_cost_of_nine_clips(folder, tested, here, capsys):
    assert tested["cost"]["samples"] == 9
    assert len(tested["cost"]["layers"]) == 4
    assert 0 <= tested["metrics"]["acc/top1"] <= 1
    assert (folder / "all.pkl").exists()
    # It is the record that evaluations are kept in, too.
    result = read_result(folder / "result.json")
    assert (result.task, result.data.samples, result.speed) == ("recognition", 9, None)
    assert result.data.classes == tuple((folder / "clips" / "classes.txt").read_text().split())
    # Its config with its options is what was tested, with the seed.
    assert evaluated_config(result).randomness.seed == 7
    here("leaderboard", "result.json", "--format", "csv")
    model = 'vared_i3d_motion,randomness.seed=7,epoch_2,"VideoDataset, 9",1'
    assert f"{model},{result.metrics['acc/top1']}" in capsys.readouterr().out


def test_what_bfloat16_changes_is_told_by_metric_answer_and_choice(folder, trained, here, capsys):
    here("compare_precision", "vared_i3d_motion.py", trained, "--work-dir", "half")
    told = capsys.readouterr().out.split("| float32")[-1].replace(" ", "")
    assert "bfloat16,prepared" in told
    assert "acc/top1" in told
    for what in ("anotheranswer", "otherchoices"):
        changed = int(told.split(f"{what}:")[1].split("of9samples")[0])
        assert 0 <= changed <= 1


def test_infer_prints_and_writes_what_each_video_is_and_cost_and_fails_for_one_it_cannot_read(
    folder, trained, here, capsys
):
    names = (folder / "clips" / "classes.txt").read_text().split()
    options = ("--config", "vared_i3d_motion.py", "--checkpoint", trained)
    options += ("--json", "infer.json", "--classes", "clips/classes.txt")
    videos = sorted((folder / "clips" / "val").iterdir())[:2]
    with pytest.raises(SystemExit) as end:
        here("infer", *videos, "gone.mp4", *options)
    assert end.value.code
    printed = capsys.readouterr().out
    rows = json.loads((folder / "infer.json").read_text())
    assert [row["file"] for row in rows] == [*map(str, videos), "gone.mp4"]
    assert rows[2]["error"] == "does not exist"
    for row in rows[:2]:
        (clip,) = row["clips"]
        assert names[clip["label"]] in printed
        assert f"{clip['gmacs']:.3f}" in printed
        # 9 classes: the best has at least a ninth.
        assert clip["score"] >= 1 / 9


def test_the_counter_tells_dense_paper_and_full_from_real_clips(folder, trained, here):
    config = "vared_i3d_motion.py"
    here("get_flops", config, "--data", 5, "--checkpoint", trained, "--json", "flops.json")
    report = json.loads((folder / "flops.json").read_text())
    assert report["samples"] == 5
    assert report["params_m"] == pytest.approx(0.2, abs=0.1)
    for name in ("paper_gmacs", "full_gmacs"):
        assert report[name]["min"] <= report[name]["avg"] <= report[name]["max"]
    here("get_flops", config, "--shape", 16, 48, 48, "--json", "shape.json")
    assert json.loads((folder / "shape.json").read_text())["dense_gmacs"] == report["dense_gmacs"]


def test_two_processes_train_and_test_through_the_shell_scripts(folder, trained, tested):
    environment = {**ENVIRONMENT, "PORT": str(29000 + os.getpid() % 900)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    config, one_epoch = (
        "vared_i3d_motion.py",
        ("train_cfg.max_epochs=1", "train_cfg.val_interval=1"),
    )
    for script, *options in (
        ("dist_train.sh", config, "2", "--work-dir", "two", "--cfg-options", *one_epoch),
        ("dist_test.sh", config, str(trained), "2", "--json", "two.json"),
    ):
        done = subprocess.run(
            ["bash", str(ROOT / "tools" / script), *options], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (folder / "two" / "epoch_1.pth").exists()
    two = json.loads((folder / "two.json").read_text())
    assert two["cost"]["samples"] == 9
    assert two["metrics"] == pytest.approx(tested["metrics"], rel=1e-6)


@pytest.mark.parametrize(("tool", "options", "message"), [
    ("train", ("none.py",), "there is no config file none.py"),
    ("test", ("vared_i3d_motion.py", "none.pth"), "there is no checkpoint none.pth"),
    ("get_flops", ("vared_i3d_motion.py",),
     "give either --shape T H W (H W for images) or --data N"),
    ("get_flops", ("none.py", "--shape", 16, 48, 48), "there is no config file none.py"),
])  # fmt: skip
def test_what_does_not_exist_is_named(here, capsys, tool, options, message):
    with pytest.raises(SystemExit) as end:
        here(tool, *options)
    assert end.value.code
    assert message in f"{end.value}{capsys.readouterr().err}"


@pytest.mark.parametrize("tool", ["train", "test", "evaluate"])
@pytest.mark.parametrize(("option", "message"), [
    ("model.backbone.type=VaRedX", "VaRedX is not in the mmaction::model registry"),
    ("model.backbone.dynamic.search_space=9", "search_space is 9; wanted one of"),
    ("{}_dataloader.dataset.dataset.ann_file=none.txt",
     "'none.txt', which the config names in {}_dataloader.dataset.dataset.ann_file"),
    ("{}_dataloader.dataset.dataset.ann_file=empty.txt", "ann_file='empty.txt', .* is empty"),
])  # fmt: skip
def test_what_a_config_names_wrongly_is_told_in_a_line(
    folder, trained, here, tool, option, message
):
    (folder / "empty.txt").touch()
    part = "train" if tool == "train" else "test"
    words = ["vared_i3d_motion.py", *([] if tool == "train" else [trained])]
    with pytest.raises(SystemExit, match=message.format(part)) as end:
        here(tool, *words, "--cfg-options", option.format(part))
    assert str(end.value).startswith("error: ")
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    "options", [["--amp"], ["--cfg-options", "optim_wrapper.type=AmpOptimWrapper"]]
)
def test_mixed_precision_without_a_gpu_is_refused_before_the_work(
    folder, here, monkeypatch, options
):
    monkeypatch.setattr("vared_mm.launch.get_device", lambda: "cpu")
    with pytest.raises(SystemExit, match=r"mixed precision \(AmpOptimWrapper\) needs a GPU"):
        here("train", "vared_i3d_motion.py", "--work-dir", "amp", *options)
    assert not (folder / "amp").exists()


def test_predictions_that_cannot_be_kept_leave_no_half_file(tmp_path):
    dump = tool_of("test").WholeDump(out_file_path=str(tmp_path / "all.pkl"))
    dump.compute_metrics([1, 2])
    assert pickle.loads((tmp_path / "all.pkl").read_bytes()) == [1, 2]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        dump.compute_metrics([3, lambda: 4])
    assert [file.name for file in tmp_path.iterdir()] == ["all.pkl"]
    assert pickle.loads((tmp_path / "all.pkl").read_bytes()) == [1, 2]


@pytest.mark.parametrize("script", sorted(ROOT.glob("tools/*.sh")), ids=lambda path: path.stem)
@pytest.mark.parametrize("switch", ["-h", "--help"])
def test_a_shell_script_tells_what_it_is_for_and_does_nothing(script, switch, tmp_path):
    # A copy without what it would call.
    copy = tmp_path / "tools" / script.name
    copy.parent.mkdir()
    copy.write_text(script.read_text("utf-8"), "utf-8")
    came = subprocess.run(["bash", copy, switch], capture_output=True, text=True, check=False)
    assert (came.returncode, came.stderr) == (0, "")
    told = came.stdout.splitlines()
    assert [f"# {line}" for line in told] == copy.read_text("utf-8").splitlines()[1 : len(told) + 1]
    assert told
