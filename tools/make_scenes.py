"""Write the generated segmentation set: textured shapes on textured ground, with their labels."""

import argparse
from dataclasses import asdict

from vared_mm.datasets.scenes import ScenesConfig, make_scenes
from vared_mm.launch import told_in_a_line


@told_in_a_line()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", help="folder to create, e.g. data/scenes")
    for name, value in asdict(ScenesConfig()).items():
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N")
    options = vars(parser.parse_args())
    print(make_scenes(options.pop("out"), ScenesConfig(**options)))


if __name__ == "__main__":
    main()
