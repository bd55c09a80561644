"""The doctor reports, with the right exit code, wherever it is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import imported

from vared_mm import doctor, oldest

REPOSITORY = Path(doctor.__file__).parents[1]
TASKS = ["recognition", "localization and detection", "segmentation"]


def installed_without(names: tuple[str, ...], folder: Path) -> Path:
    """A folder of links to everything installed here but the packages so called."""
    folder.mkdir()
    for place in map(Path, sys.path):
        if place.name != "site-packages":
            continue
        for entry in place.iterdir():
            link = folder / entry.name
            is_out = any(entry.name in (name, f"{name}.py") for name in names) or any(
                entry.name.startswith(f"{name}-") for name in names
            )
            if not is_out and not link.exists():
                link.symlink_to(entry)
    return folder


def examined(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the doctor where nothing but `folder` is installed."""
    # -S keeps out the site-packages this test runs from.
    run = subprocess.run(
        [sys.executable, "-S", "-m", "vared_mm.doctor", *arguments],
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert "are dynamic" not in run.stderr, "told of a model that nobody asked for"
    return run.returncode, run.stdout


@pytest.mark.parametrize(
    ("missing", "works", "code"),
    [
        pytest.param(("mmcv", "mmcv_lite", "mmengine"), [False] * 3, 1, id="mmcv and mmengine"),
        pytest.param(("mmaction", "mmaction2"), [False, False, True], 1, id="mmaction2"),
        pytest.param(("mmseg", "mmsegmentation"), [True, True, False], 0, id="mmsegmentation"),
        pytest.param(("regex", "mmdet"), [True, False, False], 0, id="regex and mmdet"),
    ],
)
def test_a_missing_package_is_reported_with_what_would_bring_it(missing, works, code, tmp_path):
    for toolbox in ("mmaction", "mmseg", "mmdet"):
        imported(toolbox)

    exit_code, output = examined(installed_without(missing, tmp_path / "site"), "--json")

    told = json.loads(output)
    assert exit_code == code
    assert {task["task"]: task["works"] for task in told["tasks"]} == dict(
        zip(TASKS, works, strict=True)
    )
    for task in told["tasks"]:
        if not task["works"]:
            assert any(name in task["reason"] for name in missing)
            assert task["install"].startswith("pip install 'vared_mm[")


def test_the_report_of_this_installation_is_readable(tmp_path):
    for toolbox in ("mmaction", "mmseg", "mmdet"):
        imported(toolbox)

    code, output = examined(installed_without((), tmp_path / "site"))

    assert code == 0
    assert output.splitlines()[0] == "Versions"
    assert output.splitlines()[-1] == "vared_mm can run here"
    assert f"  python          {sys.version.split()[0]}" in output
    assert output.count("works\n") == len(TASKS)
    assert max(map(len, output.splitlines())) <= 100


def fails(error: Exception):
    def trial():
        raise error

    return trial


@pytest.mark.parametrize(
    ("error", "install"),
    [(ModuleNotFoundError("No module named 'regex'"), "pip install x"), (ValueError("bad"), "")],
    ids=["missing", "broken"],
)
def test_installing_is_advised_for_what_is_missing_not_for_what_is_broken(error, install):
    task = doctor.Task("any", ("json",), "pip install x", fails(error))
    reason = f"{type(error).__name__}: {error}"
    assert doctor.examine(task) == doctor.Finding("any", False, reason, install)


@pytest.mark.parametrize(
    ("torch", "is_old"),
    [("1.13.1", True), ("2.5.1+cu121", True), ("2.6.0", True), ("2.13.0+cpu", False),
     ("2.10.0a0+gitabc", False)],
)  # fmt: skip
def test_a_torch_that_is_too_old_is_told_before_anything_is_tried(torch, is_old, monkeypatch):
    monkeypatch.setattr(oldest, "version", lambda name: torch)
    finding = doctor.examine(doctor.Task("any", ("json",), "", lambda: None))
    told = f"vared_mm needs torch 2.10 or newer; this is {torch}: pip install -U torch"
    assert finding == doctor.Finding("any", not is_old, told if is_old else "")


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert "needs Python 3.10 or newer" in oldest.too_old()


def test_python_s_oldest_release_is_the_one_that_pip_is_told():
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert f'requires-python = ">={oldest.PYTHON[0]}.{oldest.PYTHON[1]}"' in project


def test_the_import_tells_of_an_old_torch_and_the_doctor_starts_with_it(tmp_path):
    metadata = tmp_path / "torch-1.9.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.9.0\n")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    call = dict(env=env, capture_output=True, text=True, check=False)
    done = subprocess.run([sys.executable, "-c", "import vared_mm"], **call)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: vared_mm needs torch 2.10 or newer; this is 1.9.0")
    done = subprocess.run([sys.executable, "-m", "vared_mm.doctor"], **call)
    assert done.returncode == 1
    assert "does not work: vared_mm needs torch 2.10" in done.stdout


def test_packages_that_are_missing_are_all_named_before_anything_is_tried():
    task = doctor.Task("any", ("no_a", "json", "no_b"), "pip install x", fails(AssertionError()))
    assert doctor.examine(task).reason == "no_a, no_b not installed"


def test_a_fault_that_was_not_cured_stands_out():
    cure = dict(name="some-cure", reason="the reason", present=True, active=False)
    told = dict(versions={"av": None}, cures=[cure], tasks=[], limits=[], can_run=False)
    text = doctor.as_text(told)
    assert "  some-cure           NEEDED\n      the reason\n" in text
    assert "  av              missing" in text
    assert text.endswith("Limits\n  none\n\nvared_mm cannot run here")
