"""`vared-mm COMMAND`: the command lines of tools/ by name, and what a wheel carries of them."""

import ast
import re
import sys
from pathlib import Path

import pytest

from vared_mm import commands, launch, shipped

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def called(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["vared-mm", *words])
        commands.main()
        return capsys.readouterr().out

    return call


def test_help_lists_every_tool_with_its_first_line_and_an_example(called):
    told = called("--help")
    assert told == called()
    names = [line.split()[0] for line in told.splitlines()[2::2]]
    files = {f.stem.replace("_", "-") for f in [*TOOLS.glob("*.py"), *TOOLS.glob("data/*.py")]}
    assert set(names) == files | {"doctor"}
    assert {"train", "test", "evaluate", "infer", "benchmark", "export", "demo"} <= set(names)
    rows = told.splitlines()
    at = next(i for i, row in enumerate(rows) if row.startswith("train "))
    assert (
        rows[at].split(maxsplit=1)[1]
        == "Trains a model, on one device or, with --launcher, on many."
    )
    assert rows[at + 1].strip() == "$ vared-mm train configs/recognition/vared_i3d_k400.py"
    for name, example in zip(names, rows[3::2], strict=True):
        assert f"{example} ".startswith(f"{'':<20}$ vared-mm {name} ")
        assert not example.endswith("--help")


def test_the_version_is_that_of_the_package(called):
    number = called("--version").removeprefix("vared-mm ").strip()
    project = (TOOLS.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{number}"\n' in project


def test_a_command_gets_its_options_and_tells_its_name(called, capsys):
    with pytest.raises(SystemExit) as ended:
        called("gates-that-pay", "--help")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "usage: vared-mm gates-that-pay" in told
    # Where there is no tools/: of a file with options, and of one in a sentence.
    assert "\n    vared-mm gates-that-pay speed.json --batch 8\n" in told
    assert "vared-mm benchmark CONFIG --layers" in told


# A study starts runs of a checkout.
ANYWHERE = [name for name in commands.commands() if name != "study"]


@pytest.mark.parametrize("name", ANYWHERE)
def test_no_command_sends_its_user_to_a_file_of_python(called, capsys, name):
    with pytest.raises(SystemExit):
        called(name, "--help")
    told = capsys.readouterr().out
    assert f"usage: vared-mm {name} " in told
    assert f"\n    vared-mm {name}" in told
    assert not re.search(r"tools/\S*\.py", told)


def test_another_command_is_refused_with_the_one_that_was_meant(called):
    with pytest.raises(SystemExit, match="no command 'trian'; did you mean 'train'?"):
        called("trian")
    with pytest.raises(SystemExit, match="vared-mm --help lists all"):
        called("zzz")


def test_away_from_the_repository_our_own_configs_and_tools_serve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.config_of("configs/demo/i3d_motion.py").model.backbone.width == 0.25
    assert shipped.here_or_shipped("tools/train.py") == TOOLS / "train.py"
    with pytest.raises(SystemExit, match=r"there is no config file configs/demo/gone\.py"):
        launch.config_of("configs/demo/gone.py")
    with pytest.raises(SystemExit, match=r"demo/i3d_motion\.py; did you mean configs/demo/i3d_m"):
        launch.config_of("demo/i3d_motion.py")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train.py").touch()
    assert shipped.here_or_shipped("tools/train.py") == Path("tools/train.py")


def printed(file):
    """The texts in a file of code that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


@pytest.mark.parametrize("folder", ["tools", "vared_mm"])
def test_messages_name_commands_and_no_files_of_a_checkout(folder):
    texts = [
        (file.name, text)
        for file in sorted((TOOLS.parent / folder).rglob("*.py"))
        if file.name != "commands.py"  # which has the pattern of their names
        for text in printed(file)
    ]
    assert len(texts) > 100
    # A text that is such a file alone is called by `run_tool`.
    named = re.compile(r"(?!^tools/\S+\.py$).*tools/\S+\.py", re.DOTALL)
    assert [(name, text) for name, text in texts if named.match(text)] == []
