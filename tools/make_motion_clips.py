"""Write the demo's videos: nine classes of motion that a single frame cannot tell apart.

    python tools/make_motion_clips.py data/motion_clips --clips-per-class 40 --seed 0

The folder gets the videos, train.txt, val.txt and classes.txt. One that is there already is kept.
"""

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.launch import told_in_a_line
from vared_mm.options import make_as_told


@told_in_a_line()
def main() -> None:
    make_as_told(make_motion_clips, MotionClipsConfig(), __doc__)


if __name__ == "__main__":
    main()
