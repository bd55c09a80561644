"""Write eight classes of clips with different needs: motion, or a shape that stands still.

    python tools/make_need_clips.py data/need_clips

The folder gets the videos, train.txt, val.txt and classes.txt, and needs.csv, which tells what each
clip needs. One that is there already is kept.
"""

from vared_mm.datasets.need_clips import NeedClipsConfig, make_need_clips
from vared_mm.launch import told_in_a_line
from vared_mm.options import make_as_told


@told_in_a_line()
def main() -> None:
    make_as_told(make_need_clips, NeedClipsConfig(), __doc__)


if __name__ == "__main__":
    main()
