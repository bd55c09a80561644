"""Annotation file of Mini-Kinetics-200 from one of Kinetics-400.

    python tools/data/mini_kinetics200.py data/kinetics400/kinetics400_train_list_videos.txt \\
        data/kinetics400/mini-kinetics200_train_list_videos.txt \\
        --kinetics-classes data/kinetics400/classes.txt --names mini-kinetics200_classes.txt

All videos of the classes in --names, labelled in the order of that file; or those of the YouTube
ids in --ids, labelled by their classes, sorted; or, with both, the videos that are in both. Ids
that the Kinetics-400 file does not have are listed in *.left_out.txt.
"""

from __future__ import annotations

from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets import annotation_files, video_lists
from vared_mm.files import read_names
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("kinetics", type=Path, help="annotation file of Kinetics-400")
    annotation_files.add_output_options(parser, 200)
    parser.add_argument(
        "--kinetics-classes", type=Path, required=True,
        help="the 400 class names in the order of their labels, as vared-mm kinetics400 writes "
        "them",
    )  # fmt: skip
    parser.add_argument("--names", type=Path, help="file of the class names")
    parser.add_argument("--ids", type=Path, help="file of YouTube ids")
    args = parser.parse_args()
    if args.names is None and args.ids is None:
        parser.error("give --names, --ids or both")
    lines = read_names(args.kinetics_classes)
    kinetics = video_lists.labels_of(lines, len(lines), args.kinetics_classes)
    ids = None if args.ids is None else video_lists.read_ids(args.ids)
    names = (
        video_lists.classes_of_ids(args.kinetics, kinetics, ids or ())
        if args.names is None
        else read_names(args.names)
    )
    labels = video_lists.labels_of(names, args.num_classes, args.names or args.ids)
    entries = video_lists.mini_kinetics_entries(args.kinetics, kinetics, labels, ids)
    print(visible(annotation_files.write_annotation(entries, {}, args.out, args.delimiter)))


if __name__ == "__main__":
    main()
