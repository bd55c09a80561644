"""Prints what a config's model costs in GMACs: dense, by the paper's formula, and in full.

    python tools/get_flops.py configs/recognition/vared_i3d_k400.py --shape 16 256 256
    python tools/get_flops.py configs/demo/vared_i3d_motion.py --data 50 --checkpoint FILE

With --shape it tells the dense cost and the range that the gates can choose from, or what a fixed
policy takes; with --data it runs the first N samples of the test set and tells what they really
chose.
"""

from __future__ import annotations

from rich.table import Table

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.fast.benchmark import window_of
from vared_mm.files import new_file, write_json
from vared_mm.flops import bounds, build_model, measured
from vared_mm.launch import config_of, told_in_a_line
from vared_mm.options import KeyValues, Parser, positive
from vared_mm.printing import console


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument(
        "--shape", type=int, nargs="+", metavar="N", help="T H W, or H W for images"
    )
    parser.add_argument("--data", type=positive, metavar="N", help="run N samples of the test set")
    parser.add_argument("--checkpoint", help="trained weights, without which gates say little")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    args = parser.parse_args()
    if (args.shape is None) == (args.data is None):
        parser.error("give either --shape T H W (H W for images) or --data N")

    config = config_of(args.config, args.cfg_options)
    model = build_model(config, args.checkpoint)
    by_shape = args.data is None
    report = bounds(model, tuple(args.shape)) if by_shape else measured(model, config, args.data)
    show(report)
    if by_shape and (window := window_of(model, args.shape[-2:])):
        print(
            "This is one pass, but so large a picture is predicted by windows of "
            f"{window[0]} x {window[1]}: --shape {window[0]} {window[1]} tells what a window "
            "takes, --data N what pictures do"
        )
    if args.json:
        write_json(args.json, report)


def show(report: dict) -> None:
    table = Table("GMACs per clip", "avg", "min", "max")
    # Of images of other sizes another one, and only the mean is kept.
    table.add_row("dense", text_of(report["dense_gmacs"]))
    for name in ("paper", "full"):
        cells = [report[f"{name}_gmacs"][key] for key in ("avg", "min", "max")]
        table.add_row(name, *("needs --data" if c is None else text_of(c) for c in cells))
    screen = console()
    screen.print(table)
    for name, gmacs in report.get("parts_gmacs", {}).items():
        screen.print(f"  dense, {name}: {text_of(gmacs)} GMACs")
    screen.print(f"  parameters: {report['params_m']:.2f} M")


def text_of(gmacs: float) -> str:
    """Of small networks three digits that tell something."""
    return f"{gmacs:.2f}" if gmacs >= 1 else f"{gmacs:.3g}"


if __name__ == "__main__":
    main()
