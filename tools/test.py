"""Tests a checkpoint: its accuracy and what each clip cost.

    python tools/test.py configs/demo/vared_i3d_motion.py work_dirs/vared_i3d_motion/epoch_15.pth

The metrics are printed and, with the cost of each layer, written to cost.json in the run's folder.
The file that --json names also tells of what: tools/leaderboard.py and tools/visualize.py read it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump
from mmengine.registry import METRICS

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import check_kept, half_written, new_file, write_json
from vared_mm.launch import extra, processes, read_config, told_in_a_line
from vared_mm.options import run_parser
from vared_mm.report.evaluation_key import settings_digest
from vared_mm.runners import CheckedRunner


@told_in_a_line()
def main() -> None:
    parser = run_parser(__doc__ or "")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--dump", type=dump_file, metavar="FILE.pkl", help="save all predictions")
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="write metrics and costs there"
    )
    args = parser.parse_args()
    check_kept([args.checkpoint], args.dump)
    if not Path(args.checkpoint).is_file():
        raise SystemExit(f"there is no checkpoint {args.checkpoint}")

    config = read_config(args)
    settings = settings_digest(config)
    config.load_from, config.resume = args.checkpoint, False
    if args.dump:
        evaluators = config.test_evaluator
        evaluators = [evaluators] if isinstance(evaluators, dict) else list(evaluators)
        config.test_evaluator = [
            *evaluators,
            dict(type="WholeDump", out_file_path=str(args.dump)),
        ]
    config.custom_hooks = [*(config.get("custom_hooks") or []), dict(type="FiniteScoresHook")]
    with processes(config):
        test(config, args, settings)


def dump_file(name: str) -> Path:
    """As mmengine's DumpResults takes it."""
    if not name.endswith((".pkl", ".pickle")):
        raise argparse.ArgumentTypeError(f"{name} has another ending than .pkl or .pickle")
    return new_file(name)


@METRICS.register_module(force=True)
class WholeDump(DumpResults):
    """mmengine's, whose file appears when it is whole."""

    def compute_metrics(self, results: list) -> dict:
        with half_written(self.out_file_path) as half:
            dump(results, half)
        return {}


def test(config: Config, args: argparse.Namespace, settings: str) -> None:
    if args.json:
        with extra("report"):
            from vared_mm.report.evaluation_record import recorded, subject
            from vared_mm.report.result import content_of
    runner = CheckedRunner.from_cfg(config)
    metrics = runner.test()
    if args.json and is_main_process():
        told = {"config": args.config, "checkpoint": args.checkpoint, "settings": settings}
        # With them the config gives these settings again.
        seeded = {} if args.seed is None else {"randomness.seed": args.seed}
        told |= {"options": {**(args.cfg_options or {}), **seeded}, **subject(runner)}
        write_json(args.json, content_of(recorded(runner, metrics, **told)))


if __name__ == "__main__":
    main()
