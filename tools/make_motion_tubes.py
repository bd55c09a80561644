"""Write generated videos with boxes in J-HMDB's layout; only motion tells their classes.

    python tools/make_motion_tubes.py data/motion_tubes

The folder gets the frames and JHMDB-GT.pkl. One that is there already is kept.
"""

from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes
from vared_mm.launch import told_in_a_line
from vared_mm.options import make_as_told


@told_in_a_line()
def main() -> None:
    make_as_told(make_motion_tubes, MotionTubesConfig(), __doc__)


if __name__ == "__main__":
    main()
