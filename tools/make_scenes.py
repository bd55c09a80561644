"""Write the generated segmentation set: textured shapes on textured ground, with their labels.

    python tools/make_scenes.py data/scenes

The folder gets train/ and val/, of pictures and their labels. One that is there already is kept.
"""

from vared_mm.datasets.scenes import ScenesConfig, make_scenes
from vared_mm.launch import told_in_a_line
from vared_mm.options import make_as_told


@told_in_a_line()
def main() -> None:
    make_as_told(make_scenes, ScenesConfig(), __doc__)


if __name__ == "__main__":
    main()
