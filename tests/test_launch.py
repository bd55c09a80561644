"""How command lines begin and end."""

import json
import os
import socket
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import torch
from command_lines import TOOLS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import (
    DATA_SAMPLERS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    WEIGHT_INITIALIZERS,
)
from torch.utils.data import DataLoader

from vared_mm import launch
from vared_mm.datasets.video_guard import BrokenVideoError
from vared_mm.launch import (
    RANKS,
    alone_in,
    check_launcher,
    config_of,
    is_first_process,
    last_checkpoint,
    processes,
    run_tool,
    told_in_a_line,
)
from vared_mm.printing import console
from vared_mm.report.leaderboard_formats import FORMATS
from vared_mm.report.paper_tables import TABLES
from vared_mm.report.policy_pictures import CLASSES, KINDS


@pytest.mark.parametrize("error", [OSError, ValueError, BrokenVideoError])
def test_what_a_user_can_cause_ends_with_a_line(error):
    with pytest.raises(SystemExit, match="^error: a b$"), told_in_a_line():
        raise error("a\n\tb")
    for fault in (TypeError, KeyError, RuntimeError, AssertionError):
        with pytest.raises(fault), told_in_a_line():
            raise fault("model")


def test_a_type_that_no_registry_has_ends_with_a_line():
    told = "^error: VaRedX is not in the mmengine::model registry"
    with pytest.raises(SystemExit, match=told), told_in_a_line():
        MODELS.build(dict(type="VaRedX"))


@pytest.mark.parametrize(
    "registry",
    [DATA_SAMPLERS, PARAM_SCHEDULERS, OPTIM_WRAPPER_CONSTRUCTORS, WEIGHT_INITIALIZERS, TASK_UTILS],
    ids=lambda registry: registry.name,
)
def test_a_type_is_told_of_in_a_line_also_where_the_registry_s_name_has_a_blank(registry):
    told = f"^error: X is not in the mmengine::{registry.name} registry"
    with pytest.raises(SystemExit, match=told), told_in_a_line():
        registry.build(dict(type="X"))


@HOOKS.register_module(force=True)
class FaultyHook(Hook):
    def __init__(self, weight):
        self.weight = len(weight)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dict(type="FaultyHook", wight=3), "unexpected keyword argument 'wight'"),
        (dict(type="FaultyHook"), "missing 1 required positional argument: 'weight'"),
        (dict(weight=3), 'must contain the key "type"'),
        (dict(type=3), "type must be a str"),
        (dict(type="EMAHook", begin_iter=-1), "begin_iter: -1"),
        ("FaultyHook", "cfg should be a dict"),
    ],
)
def test_what_a_config_says_wrong_of_a_type_is_told_in_a_line_and_a_fault_in_it_is_not(
    settings, told
):
    with pytest.raises(SystemExit, match=f"^error: .*{told}"), told_in_a_line():
        HOOKS.build(settings)
    with pytest.raises(TypeError, match="has no len"), told_in_a_line():
        HOOKS.build(dict(type="FaultyHook", weight=3))


def test_hooks_that_are_no_list_are_refused(tmp_path):
    (tmp_path / "a.py").write_text("custom_hooks = dict(type='CostHook')")
    with pytest.raises(SystemExit, match=r"custom_hooks is \{'type': 'CostHook'\}; wanted a list"):
        config_of(str(tmp_path / "a.py"))


def test_a_training_starts_from_one_checkpoint(tmp_path):
    (tmp_path / "a.py").write_text("load_from = None")
    with pytest.raises(SystemExit, match=r"load_from is \['a.pth', 'b.pth'\]; wanted one check"):
        config_of(str(tmp_path / "a.py"), {"load_from": ["a.pth", "b.pth"]})


@pytest.mark.parametrize("launcher", RANKS)
def test_a_launcher_that_did_not_start_the_process_is_refused(monkeypatch, launcher):
    monkeypatch.delenv(RANKS[launcher], raising=False)
    with pytest.raises(SystemExit, match=f"--launcher {launcher} wants {RANKS[launcher]} in the"):
        check_launcher(launcher)
    monkeypatch.setenv(RANKS[launcher], "0")
    check_launcher(launcher)
    check_launcher("none")


def test_what_a_killed_training_left_half_written_goes_with_the_next(tmp_path):
    kept = {"epoch_1.pth", ".own.pth", f".{'a' * 32}.json"}
    for name in (*kept, f".{'0f' * 16}.pth"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    # Of another tool, which still writes it.
    kept.add(f".{'1f' * 16}.pth")
    (tmp_path / f".{'1f' * 16}.pth").touch()
    with alone_in(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "in_training"}


class Broken(list):
    def __getitem__(self, index):
        try:
            raise OSError("cut off")
        except OSError as error:
            raise BrokenVideoError("a.mp4 is\nbroken: take it out") from error


def test_an_error_in_a_worker_of_a_data_loader_is_told_by_its_own_words():
    with pytest.raises(SystemExit, match="^error: a.mp4 is broken: take it out$"), told_in_a_line():
        next(iter(DataLoader(Broken([1]), num_workers=1)))


def test_the_log_file_of_a_run_has_the_traceback_of_what_ends_with_a_line(tmp_path, capsys):
    logger = MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / "run.log"))
    with pytest.raises(SystemExit), told_in_a_line():
        raise ValueError("a b")
    for handler in logger.handlers:
        handler.close()
    told = (tmp_path / "run.log").read_text()
    assert "Traceback (most recent call last)" in told
    assert told.endswith("ValueError: a b\n")
    assert "Traceback" not in "".join(capsys.readouterr())


def test_who_closed_the_output_is_told_nothing_and_no_error(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with told_in_a_line():
        console().print("a")
        print("b", file=sys.stderr)
        assert os.path.samestat(os.fstat(sys.stdout.fileno()), os.stat(os.devnull))


@pytest.mark.parametrize(("error", "code", "said"), [
    (KeyboardInterrupt, 130, "interrupted\n"), (BrokenPipeError, 141, ""),
])  # fmt: skip
def test_an_end_that_was_asked_for_is_no_error(capfd, monkeypatch, error, code, said):
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        with pytest.raises(SystemExit) as ended, told_in_a_line():
            raise error
    assert ended.value.code == code
    assert capfd.readouterr().err == said


@pytest.mark.parametrize(
    ("launcher", "told", "first"),
    [
        ("none", {"RANK": "3", "SLURM_PROCID": "3"}, True),
        ("pytorch", {}, True),
        ("pytorch", {"RANK": "0", "SLURM_PROCID": "3"}, True),
        ("pytorch", {"RANK": "1"}, False),
        ("slurm", {"SLURM_PROCID": "1"}, False),
        ("mpi", {"OMPI_COMM_WORLD_RANK": "1"}, False),
    ],
)
def test_the_first_process_is_known_before_the_others_are(monkeypatch, launcher, told, first):
    for name in RANKS.values():
        monkeypatch.delenv(name, raising=False)
    for name, number in told.items():
        monkeypatch.setenv(name, number)
    assert is_first_process(launcher) is first


def test_the_last_checkpoint_of_a_copied_folder_is_the_copy(tmp_path):
    # Of another folder's checkpoint a training that is resumed would tell nothing.
    old, copy, elsewhere = (tmp_path / name for name in ("old", "copy", "elsewhere"))
    for folder in (old, copy, elsewhere):
        folder.mkdir()
        (folder / "last_checkpoint").write_text(str(old / "epoch_2.pth"))
    for folder in (old, copy):
        (folder / "epoch_2.pth").touch()
        assert last_checkpoint(folder) == str(folder / "epoch_2.pth")
    # With `out_dir` of mmengine's CheckpointHook it lies elsewhere.
    assert last_checkpoint(elsewhere) == str(old / "epoch_2.pth")
    assert last_checkpoint(tmp_path) is None


@pytest.mark.parametrize(("named", "said"), [("", "no file"), ("gone/epoch_3.pth", "gone/epo")])
def test_a_training_does_not_begin_anew_beside_its_checkpoints(tmp_path, named, said):
    # As an end between the emptying of the file and its writing leaves it.
    (tmp_path / "last_checkpoint").write_text(named)
    (tmp_path / ".half.pth").touch()
    assert last_checkpoint(tmp_path) in (named, None)
    for name in ("epoch_1.pth", "epoch_2.pth"):
        (tmp_path / name).touch()
    with pytest.raises(SystemExit, match=rf"last_checkpoint names {said}.*--resume .*epoch_2\.pth"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize(("text", "options", "message"), [
    ("model = dict(", {}, "SyntaxError"),
    ("a = 1 / 0", {}, "ZeroDivisionError: division by zero"),
    ("a = 'text'", {"a.b": 1}, "TypeError: a="),
])  # fmt: skip
def test_what_is_no_config_is_named(tmp_path, text, options, message):
    (tmp_path / "net.py").write_text(text)
    with pytest.raises(SystemExit, match=rf"net\.py cannot be read as a config: .*{message}"):
        config_of(str(tmp_path / "net.py"), options)


@pytest.mark.parametrize(("key", "meant"), [
    ("load_form", "load_from"), ("workdir", "work_dir"), ("optim_wraper.lr", "optim_wrapp"),
    ("train_config.max_epochs", "train_cfg"), ("models.backbone.depth", "model"),
])  # fmt: skip
def test_a_misspelt_setting_of_the_runner_names_the_one_that_was_meant(tmp_path, key, meant):
    (tmp_path / "net.py").write_text("model = dict(backbone=dict(depth=18))")
    with pytest.raises(SystemExit, match=f"^error: --cfg-options sets .* did you mean '{meant}"):
        config_of(str(tmp_path / "net.py"), {key: 1})


@pytest.mark.parametrize("key", [
    "load_from", "resume", "model.backbone.depth", "train_cfg.max_epochs", "models2", "clips",
    "find_unused_parameters", "custom_imports.imports", "model_wrapper_cfg.type", "test_pipeline",
])  # fmt: skip
def test_settings_that_are_near_to_none_or_in_the_config_are_taken(tmp_path, key):
    (tmp_path / "net.py").write_text("model = models2 = dict(backbone=dict(depth=18))")
    config = config_of(str(tmp_path / "net.py"), {key: 1})
    assert reduce(getattr, key.split("."), config) == 1


@pytest.mark.parametrize(("options", "unread"), [
    ({"data_root": "b", "epochs": 5}, "data_root, epochs"),
    ({"custom_imports.imports": "mine"}, "custom_imports"),
    ({"model.depth": 34, "compile": True, "load_from": "a.pth"}, None),
])  # fmt: skip
def test_a_setting_that_changes_nothing_is_told(tmp_path, monkeypatch, options, unread):
    told = []
    monkeypatch.setattr("vared_mm.launch.print_log", lambda text, *_: told.append(text))
    (tmp_path / "net.py").write_text("data_root = 'a'\nepochs = 9\nmodel = dict(file=data_root)")
    config = config_of(str(tmp_path / "net.py"), options)
    assert config.model.file == "a"
    wanted = [f"--cfg-options sets {unread}, which mmengine's Runner does not"] if unread else []
    assert [text.partition(" read:")[0] for text in told] == wanted


@pytest.mark.parametrize(("file", "keys"), [
    ("data/val.txt", "val.dataset.ann_file, test.dataset.0.ann_file"),
    ("data/train.txt", None),
    ("elsewhere/val.txt", "test.dataset.0.ann_file"),
])  # fmt: skip
def test_a_file_that_a_config_names_is_told_with_its_key(file, keys):
    config = Config(dict(
        launcher="none", name=file, val=dict(dataset=dict(ann_file="data/val.txt", prefix="")),
        test=dict(dataset=[dict(ann_file="val.txt")]),
    ))  # fmt: skip
    with pytest.raises(FileNotFoundError) as ended, processes(config):
        Path(file).read_text()
    told = f"No such file or directory: '{file}'"
    assert str(ended.value).endswith(f"{told}, which the config names in {keys}" if keys else told)


def gloo_threads():
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def work(fails):
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model.itself = model  # as mmengine's runner and its loops hold each other
    torch.distributed.all_gather_object([None], "what")
    assert gloo_threads()
    # Whichever thread of it has this last gives it back, and wants the interpreter's lock then.
    large = torch.ones(20_000_000)
    for _ in range(10):
        torch.distributed.all_reduce(large, async_op=True)
    if fails:
        raise ValueError("no")


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs mmengine starts the processes")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are told in /proc")
@pytest.mark.parametrize("fails", [False, True] * 4)
def test_no_process_group_and_no_thread_of_it_outlives_the_work(monkeypatch, fails):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=0, WORLD_SIZE=1)
    for name, value in {**here, "GLOO_SOCKET_IFNAME": "lo"}.items():
        monkeypatch.setenv(name, str(value))
    try:
        with processes(Config(dict(launcher="pytorch"))):
            work(fails)
    except ValueError:
        assert fails
    assert not torch.distributed.is_initialized()
    assert not gloo_threads()


@pytest.mark.parametrize(("launcher", "has_gpu"), [("pytorch", True), ("slurm", False)])
def test_processes_know_of_each_other_before_the_work_also_where_mmengine_starts_them(
    monkeypatch, launcher, has_gpu
):
    begun = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(launch, "set_multi_processing", lambda **settings: begun.append(settings))
    monkeypatch.setattr(
        launch, "init_dist", lambda *named, **settings: begun.append([*named, settings])
    )
    env = dict(mp_cfg=dict(opencv_num_threads=2), dist_cfg=dict(timeout=60))
    with processes(Config(dict(launcher=launcher, env_cfg=env))):
        assert begun == [dict(opencv_num_threads=2, distributed=True), [launcher, dict(timeout=60)]]


# One process for all tools, as to import torch and the toolboxes takes the time.
STARTS = """
import io, json, runpy, sys
from contextlib import redirect_stdout
missing, words, *tools = sys.argv[1:]
sys.modules.update(dict.fromkeys(missing.split()))
ends = {}
for tool in tools:
    sys.argv, printed = [tool, *words.split()], io.StringIO()
    try:
        with redirect_stdout(printed):
            runpy.run_path(tool, run_name="__main__")
    except SystemExit as end:
        ends[tool] = end.code or printed.getvalue()
print(json.dumps(ends))
"""


def called(tools, folder, words="--help", missing=""):
    """What each tool prints, or ends with, without the modules missing."""
    command = [sys.executable, "-c", STARTS, missing, words, *map(str, tools)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return {Path(tool).stem: end for tool, end in json.loads(done.stdout).items()}


# What the extra `report` brings, taken away; torch itself may look for jinja2.
REPORT = "pandas pydantic tabulate jinja2"


@pytest.mark.parametrize("missing", ["", REPORT], ids=["all", "without the extra"])
def test_every_tool_helps(tmp_path, missing):
    tools = sorted(TOOLS.glob("*.py"))
    told = called(tools, tmp_path, missing=missing)
    assert set(told) == {tool.stem for tool in tools}
    for tool, text in told.items():
        assert text.startswith("usage: "), tool


def test_without_an_extra_a_tool_tells_in_a_line_what_brings_it(tmp_path):
    lost = {"leaderboard", "evaluate", "visualize", "study", "freeze"}
    told = called([TOOLS / f"{tool}.py" for tool in lost], tmp_path, "a b", REPORT)
    assert set(told) == lost
    for text in told.values():
        assert "pip install 'vared_mm[report]'" in text
        assert "\n" not in text


def test_what_helps_tell_without_the_extra_is_what_it_brings(tmp_path):
    told = called([TOOLS / "leaderboard.py", TOOLS / "visualize.py"], tmp_path, missing=REPORT)
    assert f"--format {{{','.join(FORMATS)}}}" in told["leaderboard"]
    assert [*TABLES] == [*range(1, 14)]
    assert all(f"\n  {kind} " in told["visualize"] for kind in KINDS)
    assert f"(default: {CLASSES})" in " ".join(told["visualize"].split())


def test_a_tool_that_another_one_calls_has_its_settings_and_ends_it_where_it_fails(
    tmp_path, capsys
):
    tool = tmp_path / "tool.py"
    tool.write_text("import os, sys; sys.exit(int(sys.argv[1]) - int(os.environ['LESS']))")
    run_tool(str(tool), "2", "a b", env={"LESS": "2"})
    assert capsys.readouterr().out == f"$ {tool} 2 'a b'\n"
    with pytest.raises(ValueError, match="tool.py ended with 2; what it says stands above"):
        run_tool(str(tool), "3", env={"LESS": "1"})
