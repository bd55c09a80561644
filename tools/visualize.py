"""Draws what tested models compute and skip, from the results of tools/evaluate.py.

    python tools/visualize.py work_dirs/results/vared_i3d_motion/epoch_15-* --report report.html
    python tools/visualize.py RESULT --only heatmap,features --classes 'go left' --layers '.*4f.*'
    python tools/visualize.py RESULT RESULT ... --out FOLDER

A RESULT is a folder or its result.json. Of one model come
  heatmap   the share that each layer computes for each class (the paper's Figure 3);
  strips    the clips of a class that take most and least computation, as film strips (Figure 4);
  features  feature maps of one sample, the computed ones beside the rebuilt ones;
  rates     in how many samples a layer computes how much, and how many GMACs samples cost;
  choices   the loss of each sample against its share, and the most frequent policies;
and of several models on the same data a scatter of accuracy against GMACs. Every picture is written
for light and for dark paper. A static model has no policy: it is told, not drawn. Of results that
tools/test.py --json wrote, which tell nothing of single samples, come the scatter and the report.
Without a RESULT it is that of the trained network that comes along, drawn into work_dirs/pictures;
strips and features want its clips, `python tools/make_motion_clips.py data/motion_clips`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import new_file, new_folder, write_bytes, write_text
from vared_mm.launch import extra, told_in_a_line
from vared_mm.options import KeyValues, Parser
from vared_mm.printing import visible
from vared_mm.shipped import TRAINED

with extra("report"):
    from vared_mm.report.comparison import check_comparable, common_accuracy, points_of, scatter
    from vared_mm.report.html_page import Section, page
    from vared_mm.report.model_report import comparison_section, model_sections
    from vared_mm.report.plot_style import NoPictureError, Picture, picture
    from vared_mm.report.policy_pictures import CLASSES, KINDS, Wishes, pictures_of
    from vared_mm.report.result import (
        SAMPLES,
        Result,
        ResultError,
        Samples,
        check_records_kept,
        read_result,
        read_samples,
        with_results,
    )

SCATTER = "scatter"


@told_in_a_line()
def main() -> None:
    args = parsed()
    check_records_kept(args.results, args.report)
    args.results = with_results(args.results)
    results = [counted(path) for path in args.results]
    sections = model(args, results[0]) if len(results) == 1 else comparison(args, results)
    if args.report:
        names = ", ".join(dict.fromkeys(result.name for result in results))
        write_text(args.report, page(names, sections))
        print(visible(str(args.report)))


def counted(path: Path) -> Result:
    result = read_result(path)
    if result.cost is None:
        raise ResultError(
            f"{path} tells no cost, as the test had no CostMetric; vared-mm evaluate adds one"
        )
    return result


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), metavar="KIND,KIND",
        help=f"of those above and {SCATTER}; default: all of one model, the {SCATTER} of several",
    )  # fmt: skip
    parser.add_argument(
        "--classes", nargs="+", metavar="CLASS",
        help="names, or how many of the first, or all; strips show those named, else the 3 "
        "whose samples differ most (default: 25)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", metavar="REGEX", help="of feature maps; default: 4 that skip most"
    )
    parser.add_argument(
        "--clip",
        metavar="FILE",
        help="of feature maps, one of those evaluated; default: that of least computation",
    )
    parser.add_argument(
        "--out", type=new_folder,
        help="default: pictures/ in the folder of the result, work_dirs/comparison of several",
    )  # fmt: skip
    parser.add_argument("--report", type=new_file, metavar="FILE.html", help="write a report there")
    parser.add_argument("--cfg-options", nargs="+", action=KeyValues, help="KEY=VALUE overrides")
    args = parser.parse_args()
    for kind in args.only or ():
        if kind not in (*KINDS, SCATTER):
            parser.error(f"--only knows {', '.join([*KINDS, SCATTER])}; came {kind!r}")
    args.classes = args.classes or [str(CLASSES)]
    if args.classes == ["0"]:
        parser.error("--classes is 0; wanted names, or 1 or more of the first")
    if not args.results:
        args.results = [TRAINED.parent]
        args.out = args.out or Path("work_dirs", "pictures")
    return args


def model(args: argparse.Namespace, result: Result) -> list[Section]:
    """The pictures of one model, and the sections of its report."""
    (path,) = args.results
    kinds = args.only or list(KINDS)
    samples = samples_beside(path, result, args.report)
    drawn, left_out = policy(args, result, samples, kinds)
    if SCATTER in kinds:
        drawn |= scattered([result])
    write_pictures(drawn, args.out or folder_of(path) / "pictures")
    return model_sections(result, samples, list(drawn.values()), left_out)


def comparison(args: argparse.Namespace, results: list[Result]) -> list[Section]:
    """The scatter of several models; pictures of each where they are asked for by name."""
    check_comparable(results)
    out = args.out or Path("work_dirs", "comparison")
    kinds = args.only or [SCATTER]
    drawn = scattered(results) if SCATTER in kinds else {}
    write_pictures(drawn, out)
    sections = [comparison_section(results, list(drawn.values()))]
    if set(kinds) == {SCATTER}:
        return sections
    for number, (path, result) in enumerate(zip(args.results, results, strict=True), 1):
        own, left_out = policy(args, result, samples_beside(path, result, args.report), kinds)
        write_pictures(own, out / f"{number}_{file_name(result.name)}")
        text = "\n\n".join([result.checkpoint, *left_out])
        sections.append(Section(f"{number}: {result.name}", text, pictures=list(own.values())))
    return sections


def policy(
    args: argparse.Namespace, result: Result, samples: Samples | None, kinds: list[str]
) -> tuple[dict[str, Picture], list[str]]:
    """One model's pictures, and why some of the kinds cannot be drawn."""
    drawn: dict[str, Picture] = {}
    reasons: dict[str, list[str]] = {}
    for kind in kinds:
        try:
            drawn |= pictures_of(kind, result, samples, wishes(args)) if kind in KINDS else {}
        except NoPictureError as error:
            reasons.setdefault(str(error), []).append(kind)
    if reasons and not drawn and args.only and len(args.results) == 1:
        # Nothing of what was asked for by name.
        raise NoPictureError("; ".join(reasons))
    left_out = [f"Left out {', '.join(kinds)}: {reason}." for reason, kinds in reasons.items()]
    for line in left_out:
        print(visible(line))
    return drawn, left_out


def scattered(results: list[Result]) -> dict[str, Picture]:
    metric = common_accuracy(results)
    drawn = picture(
        "Accuracy against computation",
        "Hollow: static; filled: dynamic, with a bar from the cheapest to the costliest sample. "
        "Seeds of one config have its colour.",
        scatter, points_of(results, metric), metric,
    )  # fmt: skip
    return {SCATTER: drawn}


def wishes(args: argparse.Namespace) -> Wishes:
    classes: Any = tuple(args.classes)
    if len(classes) == 1 and (classes[0] == "all" or classes[0].isdigit()):
        classes = None if classes[0] == "all" else int(classes[0])
    return Wishes(classes, args.layers, args.clip, args.cfg_options or {})


def samples_beside(path: Path, result: Result, or_none: object) -> Samples | None:
    """Those beside the result, which another evaluation may have written meanwhile."""
    if or_none and not (folder_of(path) / SAMPLES).exists():
        return None
    samples = read_samples(path)
    if len(samples) != result.data.samples:
        raise ResultError(
            f"{path}: result.json tells of {result.data.samples} samples, samples.npz of "
            f"{len(samples)}; run vared-mm evaluate again"
        )
    return samples


def file_name(text: str) -> str:
    """Names of models and layers stand in files that others may have written."""
    return re.sub(r"[^\w.-]", "_", text)


def folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def write_pictures(pictures: dict[str, Picture], out: Path) -> None:
    for name, one in pictures.items():
        stem = file_name(name)
        write_bytes(out / f"{stem}.png", one.light)
        write_bytes(out / f"{stem}_dark.png", one.dark)
        print(visible(str(out / f"{stem}.png")))


if __name__ == "__main__":
    main()
