"""Annotation file of Moments-In-Time from its official csv and the folder of its videos.

    python tools/data/moments_in_time.py trainingSet.csv data/mit/videos/training \\
        data/mit/mit_train_list_videos.txt --categories moments_categories.txt

All videos are decoded once; an interrupted run goes on where it stopped. Those missing or broken
are left out and listed in *.left_out.txt.
"""

from __future__ import annotations

from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets import annotation_files, video_lists
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("csv", type=Path, help="trainingSet.csv or validationSet.csv")
    parser.add_argument("videos", type=Path, help="folder of its videos")
    annotation_files.add_output_options(parser, 339)
    parser.add_argument(
        "--categories", type=Path, required=True,
        help="moments_categories.txt, with a category and its label, as 'yawning,0', on each line",
    )  # fmt: skip
    annotation_files.add_check_options(parser)
    args = parser.parse_args()
    labels = video_lists.category_labels(args.categories, args.num_classes)
    entries = video_lists.moments_entries(args.csv, args.videos, labels)
    print(visible(annotation_files.write_checked(entries, args.videos, args)))


if __name__ == "__main__":
    main()
