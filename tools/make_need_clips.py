"""Write eight classes of clips that need different things: motion, or fine still stripes."""

import argparse
from dataclasses import asdict

from vared_mm.datasets.need_clips import NeedClipsConfig, make_need_clips
from vared_mm.launch import told_in_a_line


@told_in_a_line()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", help="folder to create, e.g. data/need_clips")
    default = NeedClipsConfig()
    for name, value in asdict(default).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N")
    options = vars(parser.parse_args())
    print(make_need_clips(options.pop("out"), NeedClipsConfig(**options)))


if __name__ == "__main__":
    main()
