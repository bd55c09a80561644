"""Trains a model, on one device or, with --launcher, on many.

    python tools/train.py configs/recognition/vared_i3d_k400.py
    bash tools/dist_train.sh configs/recognition/vared_i3d_k400.py 8

An interrupted training goes on from its last checkpoint with --resume.
"""

from __future__ import annotations

from contextlib import nullcontext

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.launch import (
    alone_in,
    check_amp,
    check_runner,
    is_first_process,
    last_checkpoint,
    processes,
    read_config,
    told_in_a_line,
    use_amp,
)
from vared_mm.method.config import is_whole
from vared_mm.options import run_parser
from vared_mm.runners import TrainingRunner


@told_in_a_line()
def main() -> None:
    parser = run_parser(__doc__ or "")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint, or without a value from the last one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--amp-dtype", choices=["float16", "bfloat16"], help="implies --amp")
    parser.add_argument("--no-validate", action="store_true", help="no validation in between")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch"
    )
    parser.add_argument("--deterministic", action="store_true")
    args = parser.parse_args()

    config = read_config(args)
    check_runner(config)
    if args.amp or args.amp_dtype:
        use_amp(config, args.amp_dtype)
    check_amp(config)
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.auto_scale_lr:
        if not is_whole((config.get("auto_scale_lr") or {}).get("base_batch_size"), 1):
            parser.error(
                "--auto-scale-lr needs auto_scale_lr.base_batch_size in the config, from 1 up"
            )
        config.auto_scale_lr.enable = True
    if args.deterministic:
        config.randomness = {**config.get("randomness", {}), "deterministic": True}
    # `resume = True` of a config; beside a load_from mmengine takes that for what is to go on.
    if config.get("resume") and not config.get("load_from"):
        args.resume = args.resume or "auto"
    # With nothing to go on from, "auto" starts as the config says, from its load_from if any.
    last = last_checkpoint(config.work_dir) if args.resume == "auto" else args.resume
    if last:
        config.resume, config.load_from = True, last
    # Before there is a runner, which writes its config into the folder.
    alone = alone_in(config.work_dir) if is_first_process(config.launcher) else nullcontext()
    with processes(config), alone:
        TrainingRunner.from_cfg(config).train()


if __name__ == "__main__":
    main()
