"""Tells how redundant the feature maps of a config's backbone are, on its own clips (Table 12).

    python tools/redundancy.py configs/demo/i3d_motion.py work_dirs/i3d_motion/epoch_20.pth
    python tools/redundancy.py CONFIG CHECKPOINT --samples 200 --layers 'layer[34].*' --out FOLDER

For each layer: the correlation coefficient (CC) and the root mean square error (RMSE) between the
neighbouring frames of each channel (time), and between each map and its best match among the other
channels of its frame (channel); RP is the share of pairs with CC above --cc and RMSE above (or
below) --rmse. Each map is first scaled to [0, 1] by itself. A constant map has CC 1 with another
constant one and CC 0 with any other.

The layers are the dynamic convolutions, in a static backbone those that its VaRed form would have.
The clips are of the validation set, one of each video, in random order. redundancy.json, layers.png
and histograms.png are written into --out.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import new_folder, write_bytes, write_json
from vared_mm.flops import build_model
from vared_mm.launch import config_of, told_in_a_line
from vared_mm.options import KeyValues, Parser, positive
from vared_mm.printing import console, visible
from vared_mm.report.plot_style import png
from vared_mm.report.redundancy import RMSE_RULES, Thresholds
from vared_mm.report.redundancy_plots import layer_lines, pair_histograms
from vared_mm.report.redundancy_study import AXES, MEASURES, study


@told_in_a_line()
def main() -> None:
    args = parsed()
    config = config_of(args.config, args.cfg_options)
    thresholds = Thresholds(args.cc, args.rmse, args.rmse_rule)
    model = build_model(config, args.checkpoint).to(args.device)
    report = study(model, config, args.samples, args.layers, thresholds)
    source = {"config": args.config, "checkpoint": args.checkpoint}
    report = {**source, "scaling": "each map", "thresholds": asdict(thresholds), **report}
    show(report)
    write_json(args.out / "redundancy.json", report)
    write_bytes(args.out / "layers.png", png(layer_lines, report))
    write_bytes(args.out / "histograms.png", png(pair_histograms, report))
    print(visible(f"{args.out}: redundancy.json, layers.png, histograms.png"))


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoint", nargs="?", help="without it, random weights")
    parser.add_argument(
        "--samples", type=positive, default=100, metavar="N", help="clips or images to run"
    )
    parser.add_argument("--layers", metavar="REGEX", help="on full names in the backbone")
    parser.add_argument("--cc", type=float, default=0.85, help="CC above which maps are alike")
    parser.add_argument("--rmse", type=float, default=0.001, help="what RMSE is held against")
    parser.add_argument(
        "--rmse-rule", choices=RMSE_RULES, default="above",
        help="redundant are pairs with an RMSE above it, as the paper's caption says, below it, "
        "or of any RMSE",
    )  # fmt: skip
    parser.add_argument("--out", type=new_folder, help="default: work_dirs/<config>/redundancy")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    args = parser.parse_args()
    if args.checkpoint and not Path(args.checkpoint).is_file():
        parser.error(f"there is no checkpoint {args.checkpoint}")
    args.out = args.out or Path("work_dirs", Path(args.config).stem, "redundancy")
    return args


def show(report: dict[str, Any]) -> None:
    weights = report["checkpoint"] or "random weights"
    table = Table(
        "layer", "C, T, H, W", title=f"{report['config']}, {weights}: {report['samples']} samples"
    )
    for axis in AXES:
        for measure in MEASURES:
            table.add_column(f"{axis} {measure.upper()}", justify="right")
    table.add_column("constant maps", justify="right")
    for row in report["layers"]:
        # A layer that no clip reaches has neither shape nor maps.
        shape = ", ".join(map(str, row["shape"] or ())) or "-"
        constant = "-" if row["constant"] is None else f"{row['constant']:.1%}"
        table.add_row(row["name"], shape, *cells(row), constant)
    table.add_section()
    table.add_row("mean of the layers", "", *cells(report["mean"]))
    console().print(table)


def cells(row: dict[str, Any]) -> list[str]:
    values = [row[axis][measure] for axis in AXES for measure in MEASURES]
    return ["-" if value is None else f"{value:.3f}" for value in values]


if __name__ == "__main__":
    main()
