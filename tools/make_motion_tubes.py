"""Write generated videos with boxes in J-HMDB's layout; only motion tells their classes."""

import argparse
from dataclasses import asdict

from vared_mm.datasets.motion_tubes import MotionTubesConfig, make_motion_tubes
from vared_mm.launch import told_in_a_line


@told_in_a_line()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", help="folder to create, e.g. data/motion_tubes")
    settings = asdict(MotionTubesConfig())
    parser.add_argument("--classes", nargs="+", default=settings.pop("classes"), metavar="NAME")
    for name, value in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N")
    options = vars(parser.parse_args())
    print(make_motion_tubes(options.pop("out"), MotionTubesConfig(**options)))


if __name__ == "__main__":
    main()
