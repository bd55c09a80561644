"""Evaluates checkpoints of a config: metrics, GMACs, clips per second, parameters, in one run.

    python tools/evaluate.py configs/demo/i3d_motion.py work_dirs/i3d_motion/epoch_20.pth
    torchrun --nproc_per_node=4 -m vared_mm.commands evaluate CONFIG CHECKPOINT... \\
        --launcher pytorch

Each checkpoint gets a folder <--out>/<config>/<checkpoint>-<digest> with result.json, and with
samples.npz, which tells what was answered to each sample and what it cost. The metrics are those of
tools/test.py. Of a dynamic model it tells how far the choices differ; with --choices also what they
are worth, for which it runs the model with those of other samples and with the most frequent policy
for all. Started again, an interrupted evaluation goes on where it stopped, and a finished one keeps
what is not asked for anew, the speed or what choices are worth, of the same weights, settings and
data. The folders are read by tools/leaderboard.py and tools/visualize.py.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.model import BaseModel
from torch import nn

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.engine.around_forward import unwrapped
from vared_mm.fast.benchmark import Settings
from vared_mm.fast.engines import ENGINES
from vared_mm.files import new_folder, read_names
from vared_mm.launch import check_launcher, config_of, extra, processes, told_in_a_line
from vared_mm.method.fixed_gate import has_one_policy
from vared_mm.method.observe import dynamic_convs
from vared_mm.options import KeyValues, Parser, positive
from vared_mm.printing import visible

with extra("report"):
    from vared_mm.report.budget import write_at_budgets
    from vared_mm.report.choices import lines as choice_lines
    from vared_mm.report.evaluation import Evaluation, evaluate
    from vared_mm.report.evaluation_speed import speeds
    from vared_mm.report.needs import needs_table
    from vared_mm.report.result import Result, read_samples, write_result


@told_in_a_line()
def main() -> None:
    args = parsed()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    check_launcher(args.launcher)
    config = config_of(args.config, args.cfg_options)
    config.launcher = args.launcher
    names = tuple(read_names(args.classes)) if args.classes else None
    with processes(config):
        for checkpoint in budgets(config, args) if args.budget else args.checkpoints:
            options = args.cfg_options or {}
            deals = args.deals if args.choices else 0
            job = Evaluation(args.config, options, checkpoint, args.out, args.chunk, names, deals)
            one(config, job, args)


def one(config: Config, job: Evaluation, args: argparse.Namespace) -> None:
    runner, result = evaluate(config, job)
    if result is not None:
        if not args.no_speed:
            result = with_speed(result, unwrapped(runner.model).eval(), config, args)
            write_result(job.folder, result)
        tell(result, job.folder)
        if args.needs:
            print(needs_table(read_samples(job.folder), args.needs))
        if job.deals and not (result.choices and result.choices["judged"]):
            print(f"the choices are not judged, as {why_not_judged(result, runner.model)}")
    # The others wait, as they would slow down what is timed.
    barrier()


def why_not_judged(result: Result, model: nn.Module) -> str:
    if not result.dynamic:
        return "it is static"
    if has_one_policy(model) or not dynamic_convs(model):
        return "no gate chooses"
    few = "fewer than two samples tell what is right"
    return few if result.choices else "not all samples ask the same gates"


def budgets(config: Config, args: argparse.Namespace) -> list[Path]:
    """The checkpoints at each budget, which the main process writes."""
    made: list[Path] = []
    for checkpoint in args.checkpoints:
        # In a folder of its own: several runs have checkpoints of one name.
        job = Evaluation(args.config, args.cfg_options or {}, checkpoint, args.out)
        outs = {
            share: job.folder / f"{checkpoint.stem}-budget_{share:g}.pth" for share in args.budget
        }
        made += outs.values()
        for target, found in write_at_budgets(config, checkpoint, outs).items():
            told = f"{outs[target]}: β {found.shift:+.2f}, share {found.share:.3f} in validation"
            if is_main_process():
                print(told)
    barrier()
    return made


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="checkpoint")
    parser.add_argument(
        "--out", type=new_folder, default=Path("work_dirs/results"), help="default: %(default)s"
    )
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, of "
                        "a data set that does not tell them; default: classes.txt beside its "
                        "annotations")  # fmt: skip
    parser.add_argument("--chunk", type=positive, default=64, metavar="N",
                        help="samples after which work is kept; default: %(default)s")  # fmt: skip
    parser.add_argument("--choices", action="store_true", help="tell what the choices are worth")
    parser.add_argument("--deals", type=positive, default=10, metavar="N",
                        help="how often they are dealt to other samples; default: 10")  # fmt: skip
    parser.add_argument("--needs", type=Path, metavar="FILE", help="tell the share by what clips "
                        "need, from a csv as vared-mm make-need-clips writes")  # fmt: skip
    parser.add_argument("--budget", nargs="+", type=float, metavar="SHARE", help="evaluate each "
                        "checkpoint with its gates shifted to these mean shares, in [0, 1], of "
                        "the dynamic convolutions' MACs")  # fmt: skip
    parser.add_argument("--no-speed", action="store_true", help="measure no clips per second")
    parser.add_argument("--engine", choices=list(ENGINES), default="prepared",
                        help="of both networks timed: prepared for inference, or as they are; "
                        "default: %(default)s")  # fmt: skip
    parser.add_argument("--batch", type=positive, default=8, help="of what is timed; default: 8")
    parser.add_argument("--repeats", type=positive, default=15, help="rounds timed; default: 15")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    if any(not 0 < target <= 1 for target in args.budget or ()):
        parser.error(f"--budget is {args.budget}; wanted shares above 0, up to 1")
    for file in filter(None, (*args.checkpoints, args.classes, args.needs)):
        if not file.is_file():
            parser.error(f"there is no file {file}")
    return args


def with_speed(
    result: Result, model: BaseModel, config: Config, args: argparse.Namespace
) -> Result:
    """Without a speed, and with a word why, where it cannot be measured."""
    settings = Settings(
        shape=None,
        shares=("data",),
        batches=(args.batch,),
        engines=(args.engine,),
        device="cuda" if torch.cuda.is_available() else "cpu",
        repeats=args.repeats,
    )
    try:
        return replace(result, speed=speeds(model, config, settings))
    except (RuntimeError, ValueError) as error:
        print(f"no speed is measured with --engine {args.engine}: {error}")
        return replace(result, speed=None)


def tell(result: Result, folder: Path) -> None:
    metrics = result.metrics.items()
    lines = [f"  {name} {'none' if value is None else f'{value:.4g}'}" for name, value in metrics]
    lines += [f"  parameters {result.parameters}"]
    for network in ("static", "dynamic"):
        if speed := (result.speed or {}).get(network):
            rates = "{median:.1f} ({low:.1f} to {high:.1f})".format(**speed)
            lines.append(f"  {network}, per second: {rates}")
    if choices := result.choices:
        lines += [f"  {what}: {told}" for what, told in choice_lines(choices).items()]
        lines += [f"  {choices['verdict']}"] if choices["verdict"] else []
    print(*map(visible, [f"{folder}: result.json, samples.npz", *lines]), sep="\n")


if __name__ == "__main__":
    main()
