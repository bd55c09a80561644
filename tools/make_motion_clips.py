"""Write the demo's videos: nine classes of motion that a single frame cannot tell apart."""

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.launch import make_as_told, told_in_a_line


@told_in_a_line()
def main() -> None:
    make_as_told(make_motion_clips, MotionClipsConfig(), __doc__)


if __name__ == "__main__":
    main()
