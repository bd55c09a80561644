"""Leaves the gates out of a config that cost more time than they save, as measured on this machine.

    python tools/gates_that_pay.py CONFIG --shape 16 112 112 --out mine.py
    python tools/gates_that_pay.py speed.json --batch 8

The first measures every choice of every dynamic convolution, writes a config of what is left, and
tells what that gains: milliseconds of the static network, and of the dynamic one with all its gates
and with those that pay; in the precision that a prepared model takes here by itself, or that of
--precision. The second prints the setting for a table that tools/benchmark.py CONFIG --layers
--json speed.json wrote. Both come before the training: a gate that was trained cannot be left out
afterwards without changing what the network computes.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from mmengine.config import Config

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.fast.benchmark import benchmark
from vared_mm.fast.precision import computes_in_bfloat16
from vared_mm.fast.sides import Settings
from vared_mm.files import check_kept, new_file, write_text
from vared_mm.latency_table import LayerLatency, gates_that_do_not_pay, read_table
from vared_mm.launch import config_of, told_in_a_line
from vared_mm.options import Parser, positive
from vared_mm.settings import bases_of, dynamic_keys

ENGINE_OF = {"float32": "prepared", "bfloat16": "prepared-bf16"}


@told_in_a_line()
def main() -> None:
    args = parsed()
    if args.source.endswith(".json"):
        layers = read_table(args.source, args.batch)
        if names := told(layers, args.batch):
            rows = "".join(f"    {name.removeprefix('backbone.')!r},\n" for name in names)
            print(f"dynamic=dict(exclude=[\n{rows}])")
        return
    config = config_of(args.source)
    check_kept(bases_of(config.filename), args.out)
    keys = dynamic_keys(config.model, "model")
    if len(keys) != 1:
        raise ValueError(
            f"{args.source} has {len(keys)} places with dynamic convolutions {keys}; wanted one, "
            "whose settings to write"
        )
    report = measured(config, args, layers=True)
    names = told([LayerLatency.from_json(row) for row in report["layers"][args.batch]], args.batch)
    if not names:
        return
    excluded = {f"{keys[0]}.exclude": exclusion(config, keys[0], names)}
    where = f"{report['conditions']['device']}, in {args.precision}"
    write_text(args.out, leaf(config, args, excluded, where))
    config.merge_from_dict(excluded)
    print(f"{args.out} is written")
    less = measured(config, args)
    for what, rows in (("all gates", report["rows"]), ("gates that pay", less["rows"])):
        print(f"{what}: " + "; ".join(map(line, rows)))
    told_conditions = {**less["conditions"], "precision": args.precision}
    print(*(f"{key}: {value}" for key, value in told_conditions.items()), sep="; ")


def told(layers: list[LayerLatency], batch: int) -> list[str]:
    """The names, if there is anything to do about them."""
    names = gates_that_do_not_pay(layers)
    if not names:
        print(f"every gate pays at batch size {batch}")
    elif len(names) == len(layers):
        print(f"no gate pays at batch size {batch}: the static network is the faster one")
        return []
    else:
        print(f"# {len(names)} of {len(layers)} convolutions pay no gate at batch size {batch}")
    return names


def measured(config: Config, args: argparse.Namespace, layers: bool = False) -> dict[str, Any]:
    settings = Settings(
        shape=tuple(args.shape), shares=("min", "all"), batches=(args.batch,), layers=layers,
        engines=(ENGINE_OF[args.precision],), threads=args.threads, repeats=args.repeats,
    )  # fmt: skip
    return benchmark(config, None, settings)


def exclusion(config: Config, key: str, names: list[str]) -> list[str]:
    """With what the config leaves out already. `dynamic` stands in the module that it is of."""
    place = config
    for part in key.split(".")[:-1]:
        place = place[part]
    former = place.get("dynamic", {}).get("exclude", [])
    stem = key.removeprefix("model.").removesuffix("dynamic")
    former = [former] if isinstance(former, str) else former
    return [*former, *(name.removeprefix(stem) for name in names)]


def leaf(config: Config, args: argparse.Namespace, options: dict[str, Any], where: str) -> str:
    base = os.path.relpath(config.filename, args.out.parent)
    own = Config()
    own.merge_from_dict(options)
    size = " x ".join(map(str, args.shape))
    return (
        f"# Without the gates that do not pay at batch size {args.batch}, {size}, on {where}.\n"
        f"_base_ = {base!r}\n{own.pretty_text}"
    )


def line(row: dict[str, Any]) -> str:
    low, high = row["ms_quartiles"]
    gates = f" {row['gates']}" if row["gates"] else ""
    return f"{row['network']}{gates} {row['ms']:.1f} ms ({low:.1f} to {high:.1f})"


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("source", help="config, or what vared-mm benchmark --layers --json wrote")
    parser.add_argument(
        "--shape", type=positive, nargs="+", metavar="N", help="T H W, or H W, of a clip"
    )
    parser.add_argument("--out", type=new_file, metavar="CONFIG", help="config to write")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="as it will be used")
    parser.add_argument(
        "--precision", choices=list(ENGINE_OF), help="default: bfloat16 where the processor "
        "computes in it"
    )  # fmt: skip
    parser.add_argument("--threads", type=positive, help="default: torch's own")
    parser.add_argument("--repeats", type=positive, default=15, help="rounds; default: 15")
    args = parser.parse_args()
    if not args.source.endswith(".json") and not (args.shape and args.out):
        parser.error("a config wants --shape, to measure at, and --out, the config to write")
    if args.source.endswith(".json") and (args.shape or args.out or args.precision):
        parser.error(
            "a table was measured already and has no config; leave out --shape, --out and "
            "--precision"
        )
    args.precision = args.precision or ("bfloat16" if computes_in_bfloat16() else "float32")
    return args


if __name__ == "__main__":
    main()
