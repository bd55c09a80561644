"""MMAction2's lists of videos and frame folders end in errors that name neither file nor line.

Of two blanks before a label it says "too many values to unpack", and the mark that some editors put
before a text becomes a part of the first name.
"""

from __future__ import annotations

import traceback
from types import ModuleType
from typing import Any

from .after_import import after_import
from .cure import Cure, installed_source

VIDEOS = "mmaction.datasets.video_dataset"
# The data set of each module, and what a line of its list is.
SETS = {
    VIDEOS: ("VideoDataset", "a path, the delimiter once, and the label as a whole number"),
    "mmaction.datasets.rawframe_dataset": (
        "RawframeDataset",
        "a folder, its number of frames and the label as whole numbers",
    ),
}


def name_lines(module: ModuleType) -> None:
    """Lets the data set read past a mark, and name the line that is none of a list."""
    names = vars(module)
    name, wanted = SETS[module.__name__]
    load, read = names[name].load_data_list, names["list_from_file"]

    def list_from_file(*args: Any, **kwargs: Any) -> list[str]:
        lines = read(*args, **kwargs)
        lines[:1] = [line.removeprefix("\ufeff") for line in lines[:1]]
        return lines

    def load_data_list(self: Any) -> list[dict[str, Any]]:
        try:
            return load(self)
        except (ValueError, IndexError, AssertionError) as error:
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            told = next(frame.f_locals for frame in frames if frame.f_code is load.__code__)
            # Lists of several labels have another form, and other settings.
            if "line" not in told or getattr(self, "multi_class", False):
                raise
            number = told["fin"].index(told["line"]) + 1
            raise ValueError(
                f"{self.ann_file}, line {number} is {told['line']!r}; wanted {wanted} ({error})"
            ) from error

    names["list_from_file"] = list_from_file
    names[name].load_data_list = load_data_list


CURE = Cure(
    name="video-lists",
    reason="mmaction names neither file nor line of a list that it cannot read, and takes an "
    "editor's mark for a part of the first name",
    # The parts of a line are taken without looking how many there are.
    is_needed=lambda: "filename, label = line_split\n" in installed_source(VIDEOS),
    apply=lambda: after_import(SETS.__contains__, name_lines),
)
