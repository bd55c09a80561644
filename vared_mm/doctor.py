"""Tells what is installed, what was cured, what works here and what not.

    python -m vared_mm.doctor
    python -m vared_mm.doctor --json

Each task is tried, not looked up: its toolbox is imported and a small model of it is built. Exit
code 1 says that the suite cannot run here, which is when recognition does not work.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from vared_mm.oldest import too_old

PACKAGES = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "mmengine": ("mmengine", "mmengine-lite"),
    "mmcv": ("mmcv", "mmcv-lite"),
    "mmaction2": ("mmaction2",),
    "mmsegmentation": ("mmsegmentation",),
    "mmdet": ("mmdet",),
    "decord": ("decord",),
    "av": ("av",),
}
"""What is asked for, and the distributions that give it, all under the same import name."""


@dataclass(frozen=True)
class Task:
    """What the suite is installed for, and a trial that raises where it does not work."""

    name: str
    packages: tuple[str, ...]
    install: str
    trial: Callable[[], object]


@dataclass(frozen=True)
class Finding:
    """What came of trying a task; `reason` and `install` are empty where it works."""

    task: str
    works: bool
    reason: str = ""
    install: str = ""


def try_recognition() -> None:
    """One of our backbones, on mmaction's, sees a clip."""
    import torch

    with models_of("mmaction") as registry:
        tiny = dict(type="VaRedX3D", gamma_w=1.0, gamma_b=2.25, gamma_d=1.0, dynamic=dict())
        registry.build(tiny)(torch.zeros(1, 3, 2, 32, 32))


def try_detection() -> None:
    """A detector's backbone, and the two operators that localization of actions calls."""
    import torch

    # mmaction registers its localization heads in mmdet, and not at all where mmdet fails.
    import_module("mmaction.models")
    with models_of("mmdet") as registry:
        registry.build(dict(type="ResNet", depth=18))
        extractor = dict(type="SingleRoIExtractor3D", roi_layer_type="RoIAlign", output_size=2)
        regions = torch.tensor([[0, 0.0, 0, 32, 32]])
        registry.build(extractor)(torch.zeros(1, 8, 1, 4, 4), regions)
    from mmcv.ops import nms

    nms(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0.5]), 0.5)


def try_segmentation() -> None:
    """A whole segmentor sees an image."""
    import torch

    with models_of("mmseg") as registry:
        backbone = dict(type="ResNet", depth=18)
        head = dict(type="FCNHead", in_channels=512, channels=8, num_classes=2, in_index=3)
        model = registry.build(dict(type="EncoderDecoder", backbone=backbone, decode_head=head))
        model.eval()(torch.zeros(1, 3, 32, 32))


@contextmanager
def models_of(toolbox: str) -> Iterator[Any]:
    """The registry of a toolbox's models, imported, and inside the block the one types mean."""
    from mmengine.registry import DefaultScope

    import_module(f"{toolbox}.models")
    with DefaultScope.overwrite_default_scope(toolbox):
        yield import_module(f"{toolbox}.registry").MODELS


NEEDED = ("torch", "mmengine", "mmcv")
TASKS = (
    Task(
        "recognition", (*NEEDED, "mmaction"), "pip install 'vared_mm[recognition]'", try_recognition
    ),
    Task(
        "localization and detection",
        (*NEEDED, "mmaction", "mmdet"),
        "pip install 'vared_mm[recognition,detection]'",
        try_detection,
    ),
    Task(
        "segmentation",
        (*NEEDED, "mmseg"),
        "pip install 'vared_mm[segmentation]'",
        try_segmentation,
    ),
)


def versions() -> dict[str, str | None]:
    """Version of each package, None where it is missing; `mmcv` says whether it is the lite one."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        here = [(one, installed) for one in distributions if (installed := _version(one))]
        found[name] = None
        if here:
            distribution, installed = here[0]
            found[name] = installed if distribution == name else f"{installed} ({distribution})"
    if (torch := working_torch()) is not None:
        cuda = torch.version.cuda
        found["torch"] = f"{torch.__version__} ({f'CUDA {cuda}' if cuda else 'CPU build'})"
    return found


def working_torch() -> Any:
    """The module torch, or None where it cannot be imported, for whatever reason."""
    try:
        return import_module("torch")
    except Exception:
        return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def examine(task: Task) -> Finding:
    """Try `task`; a missing package is named rather than the import that fails for it."""
    missing = [package for package in task.packages if find_spec(package) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed"
        install = task.install
        if "mmcv" in missing:
            install = f"pip install 'vared_mm[lite]' && {install}"
        if "torch" in missing:
            install = f"pip install torch && {install}"
        return Finding(task.name, False, reason, install)
    if (old := too_old()) is not None:
        return Finding(task.name, False, old)
    try:
        task.trial()
    except Exception as error:
        # Whatever is broken here is what is asked for; the first line names it.
        first = (str(error).strip() or "no message").splitlines()[0]
        install = task.install if isinstance(error, ImportError) else ""
        return Finding(task.name, False, f"{type(error).__name__}: {first}", install)
    return Finding(task.name, True)


def cures() -> list[dict[str, Any]]:
    if working_torch() is None:
        return []
    from vared_mm import compat

    return [asdict(status) for status in compat.status()]


def limits() -> list[str]:
    """What does not work here though nothing is broken, and why."""
    found = []
    torch = working_torch()
    if torch is not None and not torch.cuda.is_available():
        found.append("no GPU: torch sees no CUDA device, everything runs on the CPU")
    if any(cure["name"] == "compiled-operators" and cure["present"] for cure in cures()):
        found.append(
            "mmcv has no compiled operators: nms, soft_nms, roi_align and sigmoid_focal_loss run "
            "in plain torch; deformable convolutions, CARAFE, rotated boxes and the rest raise "
            "when called"
        )
    found += [
        f"no {package}: {loses}; pip install {package}"
        for package, loses in (
            ("decord", "the configs' DecordInit and DecordDecode cannot read videos"),
            ("av", "PyAVInit and PyAVDecode cannot read videos"),
        )
        if find_spec(package) is None
    ]
    return found


def report() -> dict[str, Any]:
    """Everything the doctor has to say; `can_run` decides the exit code."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        # What the models that are built for a trial say of themselves.
        logging.disable(logging.INFO)
        findings = [examine(task) for task in TASKS]
        logging.disable(logging.NOTSET)
        return {
            "versions": versions(),
            "cures": cures(),
            "tasks": [asdict(finding) for finding in findings],
            "limits": limits(),
            "can_run": findings[0].works,
        }


def as_text(told: dict[str, Any]) -> str:
    lines = ["Versions"]
    lines += [f"  {name:<16}{number or 'missing'}" for name, number in told["versions"].items()]
    lines.append("\nCures")
    for cure in told["cures"]:
        state = "active" if cure["active"] else "NEEDED" if cure["present"] else "not needed"
        lines += _entry(f"{cure['name']:<20}{state}", cure["reason"])
    lines.append("\nTasks")
    for task in told["tasks"]:
        state = "works" if task["works"] else f"does not work: {task['reason']}"
        lines += _entry(f"{task['task']:<28}{state}", task["install"])
    lines.append("\nLimits")
    lines += [line for limit in told["limits"] for line in _entry("- " + limit)] or ["  none"]
    verdict = "vared_mm can run here" if told["can_run"] else "vared_mm cannot run here"
    return "\n".join([*lines, "", verdict])


def _entry(head: str, body: str = "") -> list[str]:
    wrapped = textwrap.wrap(head, 96, initial_indent="  ", subsequent_indent="    ")
    return wrapped + textwrap.wrap(body, 96, initial_indent="      ", subsequent_indent="      ")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=sys.argv[0] if sys.argv[0] == "vared-mm doctor" else "python -m vared_mm.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    told = report()
    print(json.dumps(told, indent=2) if options.json else as_text(told))
    return 0 if told["can_run"] else 1


if __name__ == "__main__":
    sys.exit(main())
