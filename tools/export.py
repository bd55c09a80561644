"""Writes a dynamic network as files that other engines run, and tries them on real clips.

    python tools/export.py CONFIG CHECKPOINT --to onnx
    python tools/export.py CONFIG CHECKPOINT --to openvino --policy share=0.5 --out net.xml
    python tools/export.py CONFIG CHECKPOINT --to openvino --policies 4 --out served
    python tools/export.py CONFIG CHECKPOINT --to onnx --policy dynamic

With --policy every clip gets the same one: `full` computes all, `most-frequent` is what most clips
of the validation set chose, `share=0.5` takes that share of the dynamic convolutions' MACs, FILE is
what --json of this tool or tools/evaluate.py wrote. With --policies K a folder gets the K most
frequent ones as a file each, and a router, which tells from a clip what file is for it. Layers that
are not faster so than by computing all, timed on the engine itself, compute all, and no file is
slower than the static network's (--no-gates-that-pay leaves both); filters are fitted to what the
layer answered.

`dynamic` keeps the gates: one graph that chooses by `If`, of up to 16 gates, for one clip at a
time. All others take any batch of clips of the validation set's size, after the data preprocessor.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.export.exported import export
from vared_mm.export.targets import TARGETS
from vared_mm.export.trained import Settings
from vared_mm.fast.engines import EngineError
from vared_mm.fast.isolated import WorkerError
from vared_mm.fast.sides import DifferentFunctionError
from vared_mm.files import check_kept, new_file, new_folder, write_json
from vared_mm.launch import config_of, told_in_a_line
from vared_mm.options import KeyValues, Parser, positive
from vared_mm.printing import console


@told_in_a_line()
def main() -> None:
    args = parsed()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = config_of(args.config, args.cfg_options)
    settings = Settings(
        args.to, args.policy, args.policies, args.clips, args.gates_that_pay, args.repeats
    )
    try:
        report = export(config, args.checkpoint, args.out, settings)
    except (DifferentFunctionError, EngineError, WorkerError) as error:
        raise SystemExit(f"error: {error}") from error
    report = {"config": args.config, "checkpoint": args.checkpoint, **report}
    show(report)
    if args.json:
        write_json(args.json, report)


def out_of(args: argparse.Namespace) -> Path:
    """The file to write, or of several policies the folder."""
    # A checkpoint of the net is no folder to write to.
    near = Path(args.checkpoint).name if "://" in args.checkpoint else args.checkpoint
    suffix = TARGETS[args.to].suffix
    if args.policies:
        return new_folder(args.out or f"{Path(near).with_suffix('')}-policies")
    out = new_file(args.out or str(Path(near).with_suffix(suffix)))
    if out.suffix != suffix:
        raise argparse.ArgumentTypeError(f"{out}; wanted the ending {suffix} of --to {args.to}")
    return out


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--to", choices=list(TARGETS), default="onnx")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--policy", default="most-frequent",
        help="full, most-frequent (default), share=0.5, FILE or dynamic",
    )  # fmt: skip
    choice.add_argument(
        "--policies", type=int, default=0, metavar="K", help="files of the K most frequent ones"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="of --policies a folder; default: by the checkpoint"
    )
    parser.add_argument(
        "--clips", type=positive, default=64, metavar="N",
        help="to count choices on, and as many others to try the file on",
    )  # fmt: skip
    parser.add_argument("--gates-that-pay", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of the CPU; torch's own default"
    )
    parser.add_argument("--repeats", type=positive, default=15, metavar="N", help="of each timing")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    args = parser.parse_args()
    if args.policies and args.policies < 2:
        parser.error(f"--policies is {args.policies}; wanted 2 or more, or --policy most-frequent")
    try:
        args.out = out_of(args)
        # OpenVINO's weights lie beside the file.
        for file in () if args.policies else (args.out, args.out.with_suffix(".bin")):
            check_kept((args.config, args.checkpoint, args.policy), file)
    except (argparse.ArgumentTypeError, ValueError) as error:
        parser.error(f"argument --out: {error}")
    return args


def show(report: dict[str, Any]) -> None:
    screen = console()
    exact = report["rows"][0]["accuracy"] is not None
    top_1 = "top-1 accuracy" if exact else "top-1 agreement with dynamic"
    table = Table("network", "engine", "GMACs", "ms (quartiles), batch 1", f"{top_1}, %")
    for row in report["rows"]:
        low, high = row["ms_quartiles"]
        engine = "torch, prepared" if row["network"] == "dynamic" else report["engine"]
        table.add_row(row["network"], engine, f"{row['gmacs']:.3f}",
                      f"{row['ms']:.2f} ({low:.2f} to {high:.2f})",
                      percent(row["accuracy" if exact else "agreement"]))  # fmt: skip
    screen.print(table)
    screen.print("\n".join(lines(report)))


def lines(report: dict[str, Any]) -> list[str]:
    size = ", ".join(map(str, report["inputs"]))
    told = [f"{report['file']}: inputs ({size}) after the data preprocessor; {report['engine']}, "
            f"{report['precision']}, {report['threads']} threads"]  # fmt: skip
    if "router" in report:
        told += of_policies(report)
    elif "frozen" in report:
        told += of_policy(report)
    for name, what in (("dynamic", "the dynamic model"), ("policy_model", "it with this policy")):
        if (parity := report.get(name)) is not None:
            same = parity["agreement"]
            agreement = "" if same is None else f"top-1 agreement {100 * same:.1f} %, "
            told.append(
                f"against {what}: {agreement}largest difference {parity['difference']:.2g} of "
                f"{'numbers' if same is None else 'scores'} up to {parity['largest_score']:.3g}"
            )
    return told


def percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.1f}"


def of_policy(report: dict[str, Any]) -> list[str]:
    told = []
    if report["fell_back"]:
        told.append("the snapshot was slower than the static network: full is exported")
    told.append(f"{len(report['frozen'])} of {report['convolutions']} dynamic convolutions stand "
                "at the policy's choice, the others compute all")  # fmt: skip
    if report["coverage"] is not None:
        told.append(f"coverage: {100 * report['coverage']:.1f} % of {report['clips']} clips choose "
                    "this policy by themselves")  # fmt: skip
    return told


def of_policies(report: dict[str, Any]) -> list[str]:
    router = report["router"]
    told = [
        f"policy-{i}: {len(frozen)} of {report['convolutions']} dynamic convolutions stand at its "
        f"choice; the router gives it {100 * share:.1f} % of {report['clips']} clips"
        for i, (frozen, share) in enumerate(zip(report["frozen"], router["shares"], strict=True))
    ]
    for name in report["fell_back"]:
        told.append(f"{name} was slower than the static network, whose file stands in its place")
    ms = {row["network"]: row["ms"] for row in report["rows"]}
    if ms["routed"] > ms["static"]:
        told.append("routed, clips take longer than in the static network: --policy full is faster")
    told.append(f"coverage: {100 * report['coverage']:.1f} % of the clips choose one of these "
                f"policies by themselves; {100 * router['agreement']:.1f} % are given the one that "
                "they choose")  # fmt: skip
    return told


if __name__ == "__main__":
    main()
