"""All that wants a GPU, in one command: tests, speed, a training step, and training.

    python tools/check_gpu.py --out results --clips data/my_clips
    bash tools/check_gpu.sh --dry

The parts, of which each has its own limit and the last all that is left of --minutes:

    kernels   compiled for every network and precision, side by side; the parts after it find them
    tests     those that a GPU alone can run
    speed     static and dynamic networks at the paper's sizes and shares, with and without a CUDA
              graph, against the static network as it is
    step      a training step, static and dynamic
    compiled  the static network by torch.compile against ours
    clips     networks of full width learn the clips of a folder as tools/data/small_clips.py makes
              it, or generated ones: a static start, then as long again static and dynamic

--out gets a JSON file for each part, summary.md and log.txt, written anew after every job. A job
that fails or meets its part's limit is told there, and the others go on. The exit status is 1 if a
job failed or a part has no result. --dry runs all parts with tiny networks on a CPU.
"""

from __future__ import annotations

import argparse
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets.motion_clips import CLASSES
from vared_mm.fast.benchmark import processor_name
from vared_mm.files import new_folder, read_names
from vared_mm.jobs import Job, Part, Row, run_parts
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser

R2PLUS1D = "configs/recognition/r2plus1d/vared-r2plus1d_r18_8xb12-16x4x1-120e_kinetics400-rgb.py"
X3D = "configs/recognition/x3d/vared-x3d_m_8xb12-16x5x1-120e_kinetics400-rgb.py"
BACKBONE, HEAD = "model.backbone", "model.cls_head.in_channels"


class Network(NamedTuple):
    config: str
    shape: tuple[int, int, int]  # T, H, W of the paper
    tiny: tuple[str, ...]  # what makes it quick on a CPU


NETWORKS = {
    "i3d": Network(
        "configs/recognition/vared_i3d_k400.py", (16, 256, 256),
        (f"{BACKBONE}.width=0.125", f"{HEAD}=128"),
    ),
    "r2plus1d": Network(R2PLUS1D, (16, 128, 128), (f"{BACKBONE}.base_channels=8", f"{HEAD}=64")),
    "x3d": Network(X3D, (16, 256, 256), (f"{BACKBONE}.gamma_w=0.25", f"{HEAD}=144")),
}  # fmt: skip
PRECISIONS = ("bf16", "tf32", "fp32")
# The small configs at the width of the paper's networks.
FULL_WIDTH = {
    "i3d": (f"{BACKBONE}.width=1.0", f"{HEAD}=1024"),
    "r2plus1d": (f"{BACKBONE}.base_channels=64", f"{HEAD}=512"),
}


@told_in_a_line()
def main() -> None:
    args = parsed()
    device = f"{processor_name()} (dry)" if args.dry else torch.cuda.get_device_name()
    about = f"{device}, torch {torch.__version__}"
    with TemporaryDirectory() as work:
        parts = [part for part in parts_of(args, Path(work)) if part.name in args.parts]
        outcomes = run_parts(parts, 60 * args.minutes, args.out, about)
    print((args.out / "summary.md").read_text())
    if any(outcome.state == "failed" for outcome in outcomes):
        raise SystemExit(1)


def parsed() -> argparse.Namespace:
    names = ["kernels", "tests", "speed", "step", "compiled", "clips"]
    parser = Parser(__doc__)
    parser.add_argument("--out", type=new_folder, default=Path("work_dirs/check_gpu"))
    parser.add_argument("--clips", type=Path, help="folder with train.txt, val.txt, classes.txt")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--minutes", type=float, default=8.8, help="default: %(default)s")
    parser.add_argument("--dry", action="store_true", help="tiny networks, on a CPU")
    args = parser.parse_args()
    if not (args.dry or torch.cuda.is_available()):
        parser.error("no GPU is here; --dry proves on a CPU that every part would run")
    return args


def parts_of(args: argparse.Namespace, work: Path) -> list[Part]:
    precisions = ("fp32",) if args.dry else PRECISIONS
    each = [(name, precision) for precision in precisions for name in NETWORKS]
    batches = ("2", "1") if args.dry else ("8", "1", "32")
    engines = ("prepared",) if args.dry else ("prepared", "captured")

    def jobs(part: str, *options: str, of: Iterable[tuple[str, str]] = each) -> list[Job]:
        return [timed(part, name, precision, args.dry, work, *options) for name, precision in of]

    speed = ("--share", "paper", "--engine", *engines, "--batch", *batches)
    small = ("--share", "paper", "--batch", "2", "--shape", "16", "64", "64", "--repeats", "1")
    compiled = ("--share", "all", "--engine", engines[-1], "--against", "compile", "--batch")
    step = ("--train", "--batch", "2" if args.dry else "8")
    of_step = [pair for pair in each if pair[1] != "fp32" or args.dry]
    parts = [
        Part("kernels", 90, jobs("kernels", *small, of=each[:1] if args.dry else each),
             speed_rows, at_once=12),
        Part("tests", 90, tests(args.dry, work), rows_of_tests, at_once=2),
        Part("speed", 140, jobs("speed", *speed, "--against", "eager"), speed_rows),
        Part("step", 50, jobs("step", *step, of=of_step), step_rows),
        Part("compiled", 60, jobs("compiled", *compiled, batches[0], of=each[-1:] if args.dry
                                  else each), speed_rows),
        Part("clips", 60 * args.minutes, learned(args, work), clip_rows, 4, over_seeds),
    ]  # fmt: skip
    # What a CPU takes for it says nothing.
    return (
        [part._replace(seconds=60 * args.minutes, at_once=1) for part in parts]
        if args.dry
        else parts
    )


def timed(part: str, name: str, precision: str, dry: bool, work: Path, *options: str) -> Job:
    """A benchmark of one network in one precision; `options` may give another shape."""
    network, file = NETWORKS[name], work / f"{part}-{name}-{precision}.json"
    shape = (8, 32, 32) if dry else network.shape
    repeats = ("--repeats", "1", "--warm-up", "0") if dry else ("--repeats", "20", "--warm-up", "3")
    command = [
        "tools/benchmark.py", network.config, "--shape", *map(str, shape), *repeats, *options,
        "--precision", precision, "--device", "cpu" if dry else "cuda", "--json", str(file),
    ]  # fmt: skip
    if dry:
        command += ["--shape", *map(str, shape), "--cfg-options", *network.tiny]
    return Job(f"{name} {precision}", [command], {file: {"model": name, "precision": precision}})


def tests(dry: bool, work: Path) -> list[Job]:
    # Interpreted, the second file takes minutes.
    few = {"test_predicated_conv": ["-k", "asking or asks or refused"]} if dry else {}
    options = ("-q", "-p", "no:cacheprovider", *(() if dry else ("-n", "6")))
    jobs = []
    for stem in ("test_gpu", "test_predicated_conv"):
        file = work / f"{stem}.xml"
        command = ["-m", "pytest", f"tests/{stem}.py", *options, *few.get(stem, [])]
        jobs.append(Job(stem, [[*command, f"--junitxml={file}"]], {file: {"file": stem}}))
    return jobs


def learned(args: argparse.Namespace, work: Path) -> list[Job]:
    """Seed by seed, so that what fits compares the forms."""
    steps, seeds = (2, 1) if args.dry else (200, 8)
    clips = args.clips or work / "clips"
    make = ["tools/make_motion_clips.py", str(clips)]
    if args.dry:
        make += ["--clips-per-class", "2", "--val-clips-per-class", "1"]
    classes = read_names(clips / "classes.txt") if args.clips else CLASSES
    env = {"VARED_CLIPS": str(clips), "VARED_CLASSES": str(len(classes)), "VARED_STEPS": str(steps)}
    begin = [] if args.clips else [make]
    jobs = [
        learning(name, seed, steps, work, args.dry) for seed in range(seeds) for name in FULL_WIDTH
    ]
    return [job._replace(commands=[*begin, *job.commands], env=env) for job in jobs]


def learning(name: str, seed: int, steps: int, work: Path, dry: bool) -> Job:
    width = NETWORKS[name].tiny if dry else FULL_WIDTH[name]
    # The rate of the narrow networks is too high for wide ones.
    options = [*width, "optim_wrapper.optimizer.lr=0.0005"]
    start = work / f"{name}-{seed}-start"

    def train(form: str, folder: Path, *more: str) -> list[str]:
        config = f"configs/small/{form}{name}.py"
        told = ["--work-dir", str(folder), "--seed", str(seed), "--no-validate"]
        return ["tools/train.py", config, *told, "--cfg-options", *options, *more]

    commands, results = [train("", start)], dict[Path, Row]()
    for form in ("", "vared_"):
        folder = work / f"{name}-{seed}-{form or 'static'}"
        commands.append(train(form, folder, f"load_from={start}/iter_{steps}.pth"))
        test = ["tools/test.py", f"configs/small/{form}{name}.py", f"{folder}/iter_{steps}.pth"]
        told = ["--work-dir", str(folder), "--json", str(folder / "result.json")]
        commands.append([*test, *told, "--cfg-options", *width])
        known = {"model": name, "form": "dynamic" if form else "static", "seed": seed}
        results[folder / "result.json"] = {**known, "steps": steps}
    return Job(f"{name} seed {seed}", commands, results)


def speed_rows(file: Path, known: Row) -> list[Row]:
    report = json.loads(file.read_text())
    keys = [
        "batch", "network", "engine", "gates", "share", "ms", "ms_quartiles", "clips_per_s",
        "speedup", "ideal", "efficiency",
    ]  # fmt: skip
    about = {**known, **conditions_of(report)}
    return [{**about, **{key: row[key] for key in keys}} for row in report["rows"]]


def step_rows(file: Path, known: Row) -> list[Row]:
    report = json.loads(file.read_text())
    return [{**known, **conditions_of(report), **row} for row in report["training"]]


def conditions_of(report: Row) -> Row:
    conditions = report["conditions"]
    size = " x ".join(map(str, conditions["shape"]))
    return {"device": conditions["device"], "size": size, "repeats": conditions["repeats"]}


def rows_of_tests(file: Path, known: Row) -> list[Row]:
    cases = list(ElementTree.parse(file).iter("testcase"))
    ends = {"failed": ("failure", "error"), "skipped": ("skipped",)}
    named = {
        end: [str(c.get("name")) for c in cases if any(c.find(tag) is not None for tag in tags)]
        for end, tags in ends.items()
    }
    counts = {end: len(names) for end, names in named.items()}
    passed = len(cases) - sum(counts.values())
    return [{**known, "passed": passed, **counts, "which failed": ", ".join(named["failed"])}]


def clip_rows(file: Path, known: Row) -> list[Row]:
    result = json.loads(file.read_text())
    cost = result["cost"] or {"share": {"avg": 1.0}}
    told = {"device": result["device"], "clips": result["data"]["samples"]}
    return [{**known, **told, "top1": result["metrics"]["acc/top1"], "share": cost["share"]["avg"]}]


def over_seeds(rows: list[Row]) -> list[Row]:
    """The median of each network and form, and the range."""
    alike: dict[tuple, list[Row]] = {}
    for row in rows:
        alike.setdefault((row["model"], row["form"]), []).append(row)
    shared = ("model", "form", "steps", "device", "clips")
    return [
        {
            **{key: seeds[0][key] for key in shared},
            "seeds": [row["seed"] for row in seeds],
            "top1": median(row["top1"] for row in seeds),
            "top1, range": (min(row["top1"] for row in seeds), max(row["top1"] for row in seeds)),
            "share": median(row["share"] for row in seeds),
        }
        for seeds in alike.values()
    ]


if __name__ == "__main__":
    main()
