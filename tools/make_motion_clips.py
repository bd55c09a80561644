"""Write the demo's videos: nine classes of motion that a single frame cannot tell apart."""

import argparse
from dataclasses import asdict

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.launch import told_in_a_line


@told_in_a_line()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", help="folder to create, e.g. data/motion_clips")
    default = MotionClipsConfig()
    for name, value in asdict(default).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N")
    options = vars(parser.parse_args())
    print(make_motion_clips(options.pop("out"), MotionClipsConfig(**options)))


if __name__ == "__main__":
    main()
