"""Annotation file of Kinetics-400 from its official csv and the folder of its videos.

    python tools/data/kinetics400.py train.csv data/kinetics400/videos_train \\
        data/kinetics400/kinetics400_train_list_videos.txt --classes data/kinetics400/classes.txt

Videos are found by YouTube id and times in any subfolder. All are decoded once; an interrupted run
goes on where it stopped. Those missing or broken are left out and listed in *.left_out.txt.
"""

from __future__ import annotations

from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets import annotation_files, video_lists
from vared_mm.files import read_names, write_text
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("csv", type=Path, help="official csv of one split")
    parser.add_argument("videos", type=Path, help="folder of its videos")
    annotation_files.add_output_options(parser, 400)
    parser.add_argument(
        "--classes", type=Path, required=True,
        help="class names in the order of their labels; if the file does not exist, it is "
        "written from the names in the csv, sorted",
    )  # fmt: skip
    annotation_files.add_check_options(parser)
    args = parser.parse_args()
    rows = video_lists.kinetics_rows(args.csv)
    exists = args.classes.exists()
    names = read_names(args.classes) if exists else video_lists.class_names(rows)
    labels = video_lists.labels_of(names, args.num_classes, args.classes if exists else args.csv)
    if not exists:
        write_text(args.classes, "".join(f"{name}\n" for name in names))
    entries = video_lists.kinetics_entries(args.csv, args.videos, labels)
    print(visible(annotation_files.write_checked(entries, args.videos, args)))


if __name__ == "__main__":
    main()
