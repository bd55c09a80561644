"""Annotation file of action tubes, in the pickle format of J-HMDB, from other annotations.

    python tools/data/jhmdb.py text groundtruths.zip OUT.pkl --frames data/jhmdb/Frames \\
        --labels classes.txt --test testlist.txt
    python tools/data/jhmdb.py masks data/jhmdb/puppet_mask OUT.pkl --frames data/jhmdb/Frames ...
    python tools/data/jhmdb.py joints data/jhmdb/joint_positions OUT.pkl --frames ...
    python tools/data/jhmdb.py csv boxes.csv OUT.pkl --videos FOLDER --suffix .avi --test ...
    python tools/data/jhmdb.py asl24 data/asl24 data/asl24_tubes.pkl

A test list has a video on each line; the annotated videos that it does not name are for training.
The csv has the columns video, tube, label, frame, x1, y1, x2, y2, with frames counted from 1.
`asl24` makes two splits, the first with the test clips and the second with the validation clips.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets import tube_converters as convert
from vared_mm.datasets.tables import AnnotationError, read_csv, read_lines
from vared_mm.datasets.tube_annotations import TubeAnnotations, write_tubes
from vared_mm.datasets.tube_rows import Size, annotations_of, size_of_frames, size_of_video
from vared_mm.files import new_file, read_names
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible

# The boxes of asl24 are in pixels of 200 x 200, its videos are smaller and have 32 frames each.
ASL24_SIZE = (32, (200, 200))


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("kind", choices=["text", "masks", "joints", "csv", "asl24"])
    parser.add_argument("source", type=Path, help="file or folder of the annotations")
    parser.add_argument("out", type=new_file, help="pickle to write")
    parser.add_argument("--frames", type=Path, help="folder of <video>/00001.png, ...")
    parser.add_argument("--videos", type=Path, help="folder of <video><suffix>, in place of frames")
    parser.add_argument("--suffix", default=".mp4", help="of the video files")
    parser.add_argument("--test", type=Path, help="list of the test videos")
    parser.add_argument("--labels", type=Path, help="class names in the order of their numbers")
    args = parser.parse_args()
    if args.kind != "asl24" and (not args.test or (args.frames is None) == (args.videos is None)):
        parser.error("give --test and either --frames or --videos")
    if args.kind == "text" and not args.labels:
        parser.error("text annotations have numbers as labels: give --labels with their names")
    annotations = asl24(args.source) if args.kind == "asl24" else converted(args)
    write_tubes(args.out, annotations)
    counts = f"{len(annotations.gttubes)} videos, {len(annotations.labels)} classes"
    print(visible(f"{args.out}: {counts}"))


def converted(args: Namespace) -> TubeAnnotations:
    labels = read_names(args.labels) if args.labels else None
    rows = list({
        "text": lambda: convert.rows_of_text(args.source, labels or []),
        "masks": lambda: convert.rows_of_masks(args.source),
        "joints": lambda: convert.rows_of_joints(args.source),
        "csv": lambda: convert.rows_of_table(args.source),
    }[args.kind]())  # fmt: skip
    test = dict.fromkeys(read_lines(args.test))
    if not test:
        raise AnnotationError(f"{args.test} names no video; wanted the test videos, one a line")
    train = [video for video in dict.fromkeys(row.video for row in rows) if video not in test]

    def size(video: str) -> Size:
        if args.frames:
            return size_of_frames(args.frames / video)
        return size_of_video(args.videos / f"{video}{args.suffix}")

    return annotations_of(rows, size, [(train, list(test))], labels)


def asl24(folder: Path) -> TubeAnnotations:
    rows = list(convert.rows_of_hands(folder))
    clean = {row.video for row in rows}
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": [], "drop": []}
    file = folder / "labels.csv"
    for line, row in read_csv(file, ("file", "split_time")):
        video = Path(row["file"]).stem
        if row["split_time"] not in parts:
            raise AnnotationError(
                f"{file}, line {line} has the split {row['split_time']!r}; wanted {[*parts]}"
            )
        if video in clean:
            parts[row["split_time"]].append(video)
    splits = [(parts["train"], parts["test"]), (parts["train"], parts["val"])]
    return annotations_of(rows, lambda video: ASL24_SIZE, splits)


if __name__ == "__main__":
    main()
