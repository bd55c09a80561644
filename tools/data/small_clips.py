"""Makes a data set of small clips for a training of minutes, from a csv of labels and a folder.

    python tools/data/small_clips.py labels.csv videos data/my_clips \\
        --split fold --train 0 1 2 --val 3

Beside the clips it writes train.txt, val.txt and classes.txt, which a config names. Clips that are
there already stay, unless their videos are others meanwhile.
"""

from __future__ import annotations

from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.datasets.small_clips import SmallClipsConfig, make_small_clips
from vared_mm.files import new_folder
from vared_mm.launch import told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("labels", type=Path, help="csv with a row for each video")
    parser.add_argument("videos", type=Path, help="folder that its file names start from")
    parser.add_argument("out", type=new_folder, help="folder to write")
    parser.add_argument("--split", required=True, help="column that tells the split")
    parser.add_argument("--train", nargs="+", required=True, help="its values to train on")
    parser.add_argument("--val", nargs="+", required=True, help="its values to validate on")
    parser.add_argument("--file", default="file", help="column of file names; default: %(default)s")
    parser.add_argument("--label", default="label", help="column of classes; default: %(default)s")
    parser.add_argument("--frames", type=int, default=32, help="of a clip; default: %(default)s")
    parser.add_argument("--short-side", type=int, default=64, help="pixels; default: %(default)s")
    args = vars(parser.parse_args())
    labels, videos, out = (args.pop(name) for name in ("labels", "videos", "out"))
    args |= {name: tuple(args[name]) for name in ("train", "val")}
    print(visible(make_small_clips(labels, videos, out, SmallClipsConfig(**args))))


if __name__ == "__main__":
    main()
