"""Runs a recognizer on a video while it plays, and draws what it says and what each clip cost.

    python tools/live.py drive.mp4 --config CONFIG --checkpoint CHECKPOINT --out drawn.mp4
    python tools/live.py 0 --serve
    python tools/live.py rtsp://camera/stream --config CONFIG --checkpoint CHECKPOINT

Of the last frames a clip is taken again and again, as the test pipeline takes one. Label, share of
the computation, GMACs and milliseconds of the network stand below the frames: in a window, in the
file that --out names, or with --serve on a page that this machine alone can open. A line is printed
where the label changes. A camera and a stream end by Ctrl-C. Without config and checkpoint it is
the demo's network, which comes along and knows nine motions.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from statistics import fmean, median
from typing import Any

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets.mp4 import USUAL_RATE, check_suffix
from vared_mm.fast.precision import PRECISIONS
from vared_mm.files import new_file, write_json
from vared_mm.infer.live import Said, check_display, live, shown_in
from vared_mm.infer.live_drawing import name_of, share_of
from vared_mm.infer.network import NetworkParser, network_named
from vared_mm.infer.sliding import SlidingClips
from vared_mm.infer.source import source_of
from vared_mm.launch import told_in_a_line
from vared_mm.options import positive
from vared_mm.printing import visible


@told_in_a_line()
def main() -> None:
    args = parsed()
    if args.out is None and args.serve is None:
        check_display()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        source = stack.enter_context(source_of(args.source))
        network = network_named(args)
        if network.task != "recognition":
            raise ValueError(
                f"wanted a recognizer, and this model does {network.task}: vared-mm infer draws "
                "what it finds"
            )
        if args.json:
            # Also where the video cannot be written to its end; of nothing that was seen, nothing.
            stack.callback(lambda: write_json(args.json, rows) if rows else None)
        clips = SlidingClips(network.model, network.config, args.window, args.precision)
        show = stack.enter_context(shown_in(source, args.out, args.serve))
        every = args.every or max(1, clips.frames // 4)
        # What was seen until then stays.
        with suppress(KeyboardInterrupt):
            for said in live(source, clips, every, show, network.names, in_time=args.out is None):
                rows.append(row_of(said, source.rate or USUAL_RATE, network.names))
                if len(rows) == 1 or rows[-1]["label"] != rows[-2]["label"]:
                    print(line_of(rows[-1]), flush=True)
    print(visible(f"{source.name} ended: {summary(rows)}"))
    if warning := source.warning():
        print(visible(warning))


def parsed() -> argparse.Namespace:
    parser = NetworkParser(__doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="a video file, a camera's number, or a stream's address"
    )
    to = parser.add_mutually_exclusive_group()
    to.add_argument(
        "--out", type=new_file, metavar="FILE.mp4", help="write a video in place of a window"
    )
    to.add_argument(
        "--serve", type=port, nargs="?", const=8000, metavar="PORT",
        help="show a page in place of a window; default: port %(const)s",
    )  # fmt: skip
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write a row for each clip")
    parser.add_argument(
        "--every", type=positive, metavar="FRAMES",
        help="from clip to clip; default: a quarter of --window",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=positive, metavar="FRAMES",
        help="the last ones, which a clip is taken from; default: as many as it spans",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="of the maps between layers; default: bfloat16 where the processor computes in it",
    )  # fmt: skip
    args = parser.parse_args()
    if args.out:
        try:
            check_suffix(args.out)
        except ValueError as error:
            parser.error(str(error))
    return args


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number from 0 to 65535")
    return int(text)


def row_of(said: Said, rate: float, names: list[str]) -> dict[str, Any]:
    """Of a clip: when it ended, what it is, and what it cost; the share of a static model is 1."""
    answer, share = said.answer, share_of(said.answer)
    return {
        "frame": said.frame,
        "seconds": said.frame / rate,
        "label": answer.label,
        "name": name_of(answer, names),
        "score": answer.score,
        "gmacs": answer.cost.totals["full"] / answer.cost.views / 1e9,
        "share": 1.0 if share is None else share,
        "milliseconds": answer.milliseconds,
    }


def line_of(row: dict[str, Any]) -> str:
    return visible(
        f"{row['seconds']:7.1f} s  {row['name']}  {100 * row['score']:.0f} %  share "
        f"{100 * row['share']:.0f} %  {row['gmacs']:.3g} GMACs  {row['milliseconds']:.1f} ms"
    )


def summary(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no clip was whole"
    return (
        f"{len(rows)} clips, {median(row['milliseconds'] for row in rows):.1f} ms each in the "
        f"median, {fmean(row['gmacs'] for row in rows):.3g} GMACs and a share of "
        f"{100 * fmean(row['share'] for row in rows):.0f} % on average"
    )


if __name__ == "__main__":
    main()
