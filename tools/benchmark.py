"""Times a config's network on the clock: static and dynamic, in our engines and in others.

    python tools/benchmark.py configs/recognition/vared_i3d_k400.py --shape 16 112 112
    python tools/benchmark.py CONFIG CHECKPOINT --share data --batch 1 8 --json speed.json

Shares are of the whole network's MACs: --share paper takes the paper's average for the backbone,
min the least the gates can choose, all opens every gate, a number is itself, and data lets the
gates decide on clips of the test set. --shape takes random clips; without it they are of the test
set. Whole networks on inputs in memory; decoding is not included. A comparison whose two sides do
not compute the same function ends with an error.

--train times a training step instead, with the config's optimiser and the efficiency loss, and
tells how much memory its forward pass keeps for the backward one; in bf16 as with tools/train.py
--amp-dtype bfloat16. tf32 and the engine captured are a GPU's.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.fast.benchmark import benchmark
from vared_mm.fast.engines import ENGINES, RIVALS, EngineError
from vared_mm.fast.isolated import WorkerError
from vared_mm.fast.sides import PRECISIONS, DifferentFunctionError, Settings
from vared_mm.files import new_file, write_json
from vared_mm.launch import config_of, told_in_a_line
from vared_mm.options import KeyValues, Parser, positive
from vared_mm.printing import console


@told_in_a_line()
def main() -> None:
    args = parsed()
    config = config_of(args.config, args.cfg_options)
    settings = Settings(
        shape=tuple(args.shape) if args.shape else None, shares=tuple(args.share),
        batches=tuple(args.batch), engines=tuple(args.engine), against=tuple(args.against),
        mixed=args.mixed, layers=args.layers, layers_beside=args.layers_beside,
        train=args.train, precision=args.precision,
        device=args.device, threads=args.threads, repeats=args.repeats, warm_up=args.warm_up,
    )  # fmt: skip
    of = {"config": args.config, "checkpoint": args.checkpoint}

    def keep(report: dict[str, Any]) -> None:
        if args.json:
            write_json(args.json, {**of, **report})

    try:
        show(benchmark(config, args.checkpoint, settings, after_batch=keep))
    except (DifferentFunctionError, EngineError, ValueError, WorkerError) as error:
        raise SystemExit(f"error: {error}") from error


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoint", nargs="?", help="without it, random weights")
    parser.add_argument("--shape", type=int, nargs="+", metavar="N", help="T H W, or H W")
    parser.add_argument("--batch", type=positive, nargs="+", default=[1, 8], metavar="N")
    parser.add_argument(
        "--share", nargs="+", default=[],
        help="paper, min, all, data, or 0.6; default: min, all, and paper where it tells one",
    )  # fmt: skip
    parser.add_argument(
        "--mixed", action="store_true", help="also each sample of an unlike batch by itself"
    )
    parser.add_argument("--layers", action="store_true", help="also time each choice of each layer")
    parser.add_argument(
        "--layers-beside", action="store_true",
        help="also time each kind of convolution of the static network, as we prepare it and in "
        "OpenVINO, in float32",
    )  # fmt: skip
    parser.add_argument("--train", action="store_true", help="a training step, and nothing else")
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES), default=["prepared"])
    parser.add_argument(
        "--against", type=lambda names: names.split(","), default=[],
        help=f"static networks elsewhere, of {','.join(RIVALS)}",
    )  # fmt: skip
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of the CPU; torch's own default"
    )
    parser.add_argument("--repeats", type=positive, default=15, metavar="N")
    parser.add_argument(
        "--warm-up", type=int, default=1, metavar="N",
        help="calls before each that is timed; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    args = parser.parse_args()
    if args.warm_up < 0:
        parser.error(f"--warm-up is {args.warm_up}; wanted 0 or more")
    if args.layers_beside and (args.train or args.device != "cpu"):
        parser.error(
            "--layers-beside is of evaluation on a CPU; leave it out, or what it came with"
        )
    for name in args.against:
        if name not in RIVALS:
            parser.error(f"--against knows {', '.join(RIVALS)}; came {name!r}")
    return args


def show(report: dict[str, Any]) -> None:
    table = Table(
        "batch", "network", "engine", "precision", "gates", "share", "ms (quartiles)", "clips/s",
        "speed-up", "ideal", "of ideal",
    )  # fmt: skip
    for row in report["rows"]:
        low, high = row["ms_quartiles"]
        table.add_row(
            str(row["batch"]), row["network"], row["engine"], row["precision"], row["gates"],
            f"{row['share']:.2f}",
            f"{row['ms']:.1f} ({low:.1f} to {high:.1f})", f"{row['clips_per_s']:.1f}",
            # A static network is what the others of its engine are compared with.
            *(f"{row[key]:.2f}" for key in ("speedup", "ideal", "efficiency") if row["gates"]),
        )  # fmt: skip
    screen = console()
    screen.print(step_table(report["training"]) if report["training"] else table)
    for batch, layers in report["layers"].items():
        screen.print(layer_table(batch, layers))
    for batch, kinds in report["layers_beside"].items():
        screen.print(beside_table(batch, kinds))
    conditions = (
        f"{key.replace('_', ' ')}: {value}" for key, value in report["conditions"].items()
    )
    screen.print("; ".join(conditions))


def step_table(steps: list[dict[str, Any]]) -> Table:
    columns = ("batch", "network", "ms of a step (quartiles)", "of static", "kept MB", "of static")
    table = Table(*columns)
    for row in steps:
        low, high = row["ms_quartiles"]
        table.add_row(
            str(row["batch"]), row["network"], f"{row['ms']:.1f} ({low:.1f} to {high:.1f})",
            f"{row['time_ratio']:.2f}", f"{row['kept_mb']:.1f}", f"{row['kept_ratio']:.2f}",
        )  # fmt: skip
    return table


def layer_table(batch: int, layers: list[dict[str, Any]]) -> Table:
    table = Table(
        "layer", "static", "gate", "channels / R: ms", "best saving",
        title=f"ms of each convolution, batch {batch}, one path of each axis open",
    )  # fmt: skip
    for layer in layers:
        choices = (f"{c['channels']} / {c['stride']}: {c['ms']:.3f}" for c in layer["choices"])
        table.add_row(
            layer["name"], f"{layer['static_ms']:.3f}", f"{layer['gate_ms']:.3f}",
            ", ".join(choices), f"{layer['best_saving_ms']:.3f}",
        )  # fmt: skip
    return table


def beside_table(batch: int, kinds: list[dict[str, Any]]) -> Table:
    """With what we compute in a second, of what a large product of matrices does."""
    table = Table(
        "inputs to filters, kernel, output", "convolutions", "MMACs", "ours", "OpenVINO",
        "of OpenVINO", "ours of peak", title=f"ms of convolutions, static, batch {batch}",
    )  # fmt: skip
    long = [row for row in kinds if row["ours"] > 0.01 * sum(row["ours"] for row in kinds)]
    others = [row for row in kinds if row not in long]
    told = [("\n".join(row["kinds"]), [row]) for row in long]
    for name, rows in [*told, *([("others", others)] if others else []), ("all", kinds)]:
        convolutions, macs, ours, theirs, peak = (
            sum(row[key] for row in rows)
            for key in ("convolutions", "macs", "ours", "openvino", "ms_at_peak")
        )
        table.add_row(
            name, str(convolutions), f"{macs / 1e6:.0f}", f"{ours:.2f}", f"{theirs:.2f}",
            f"{ours / theirs:.2f}" if theirs else "", f"{peak / ours:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
