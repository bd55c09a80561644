"""The whole way on generated videos: data, training, test, and one table.

A narrow I3D learns nine motions, then its dynamic form is fine-tuned from it. Every part is one
of the commands that the README names; finished parts are kept, an interrupted one goes on.

    python tools/demo.py
    python tools/demo.py --publish weights.pth

The second also writes the weights of the dynamic network alone, as they come with this package.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from rich.table import Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets.motion_clips import CLASSES
from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.fast import prepare_for_inference
from vared_mm.fast.precision import computes_in_bfloat16
from vared_mm.files import half_written, new_file, write_json
from vared_mm.flops import build_model, loader_of
from vared_mm.launch import extra, last_checkpoint, run_tool, told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import console
from vared_mm.screen import quiet
from vared_mm.speed import Speed, interleaved
from vared_mm.weights import read_checkpoint

with extra("report"):
    from vared_mm.report.result import Result, ResultError, read_result

CONFIGS = {
    "static": "configs/demo/i3d_motion.py",
    "dynamic": "configs/demo/vared_i3d_motion.py",
}
FORMS = ("eager", "prepared")
BATCH, REPEATS = 8, 15
# What is timed: from decoded clips to the scores.
HEAD = dict(mode="tensor", stage="head")


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget finished parts")
    parser.add_argument("--publish", type=new_file, metavar="FILE.pth", help="write weights there")
    args = parser.parse_args()
    start = time.time()
    quiet(MMLogger.get_current_instance())
    if args.fresh:
        for name in CONFIGS:
            shutil.rmtree(work_dir(name), ignore_errors=True)

    run_tool("tools/make_motion_clips.py", "data/motion_clips")
    results = {name: trained_and_tested(name) for name in CONFIGS}
    if args.publish:
        publish(results["dynamic"].checkpoint, args.publish)
    speeds = measure(results)
    show(results, speeds)
    rates = {name: {form: asdict(speeds[name][form]) for form in FORMS} for name in results}
    report = {
        name: {**asdict(result), "clips_per_s": rates[name]} for name, result in results.items()
    }
    write_json("work_dirs/demo.json", {**report, "speed_measured_on": conditions()})
    print(f"work_dirs/demo.json holds the numbers; {time.time() - start:.0f} s")


def work_dir(name: str) -> Path:
    return Path("work_dirs", Path(CONFIGS[name]).stem)


def trained_and_tested(name: str) -> Result:
    """Of a part that is finished already, if its record is whole, that."""
    file = work_dir(name) / "result.json"
    try:
        return read_result(file)
    except ResultError:
        run_tool("tools/train.py", CONFIGS[name], "--resume")
        checkpoint = str(last_checkpoint(work_dir(name)))
        run_tool("tools/test.py", CONFIGS[name], checkpoint, "--json", str(file))
        return read_result(file)


def publish(checkpoint: str, file: Path) -> None:
    """The weights alone, in half precision, with the names of the classes."""
    weights = read_checkpoint(checkpoint)["state_dict"]
    halves = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
    with half_written(file) as half:
        torch.save({"state_dict": halves, "meta": {"dataset_meta": {"classes": CLASSES}}}, half)


def measure(results: dict[str, Result]) -> dict[str, dict[str, Speed]]:
    """Clips per second of whole networks, on held-out clips that are decoded already.

    Of each network as it is, `eager`, and made ready for evaluation, `prepared`.
    """
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, path in CONFIGS.items():
        config = Config.fromfile(path)
        model = build_model(config, results[name].checkpoint)
        channels_last(model)
        inputs = decoded(config, model)
        prepared = prepare_for_inference(model, inputs[0], **HEAD)
        runs[name, "eager"] = partial(forward, model, inputs)
        runs[name, "prepared"] = partial(forward, prepared, inputs)
    clips = sum(len(batch) for batch in inputs)
    measured = interleaved(runs, clips, REPEATS)
    return {name: {form: measured[name, form] for form in FORMS} for name in CONFIGS}


def forward(model: BaseModel, inputs: list[torch.Tensor]) -> None:
    with torch.inference_mode():
        for batch in inputs:
            model(batch, **HEAD)


def decoded(config: Config, model: BaseModel) -> list[torch.Tensor]:
    """Some batches of the test set, preprocessed; clips spread over all classes."""
    loader = loader_of(config, BATCH, shuffle=True)
    return [model.data_preprocessor(batch)["inputs"] for batch in islice(loader, 4)]


def conditions() -> str:
    prepared = ", prepared in bfloat16" if computes_in_bfloat16() else ""
    return (
        f"CPU, {torch.get_num_threads()} threads, batch {BATCH}, float32{prepared}, without "
        f"decoding, median of {REPEATS} interleaved rounds, each call after one that is not timed"
    )


def show(results: dict[str, Result], speeds: dict[str, dict[str, Speed]]) -> None:
    costs = Table("", "top-1", "dense", "avg", "min", "max", "share of MACs",
                  title="GMACs per clip, in full: gates and cheap operations included")  # fmt: skip
    rates = Table("", *FORMS, title="Clips per second, with quartiles")
    for name, result in results.items():
        cost = result.cost
        costs.add_row(
            name,
            f"{100 * (result.metrics['acc/top1'] or 0):.1f} %",
            f"{cost['dense_gmacs']:.3f}",
            *(f"{cost['full_gmacs'][key]:.3f}" for key in ("avg", "min", "max")),
            f"{100 * cost['share']['avg']:.0f} %",
        )
        rates.add_row(
            name, *(f"{v.median:.1f} ({v.low:.1f} to {v.high:.1f})" for v in speeds[name].values())
        )
    screen = console()
    for table in (costs, rates):
        screen.print(table)
    screen.print(conditions())


if __name__ == "__main__":
    main()
