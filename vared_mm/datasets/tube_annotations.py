"""Action tubes of videos, in the pickle format that J-HMDB and UCF101-24 are shared in.

`JHMDB-GT.pkl` and `UCF101v2-GT.pkl` (Kalogeiton et al., ICCV 2017) hold a mapping with the fields
of `TubeAnnotations`. Frames are numbered from 1, boxes are x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from vared_mm.datasets.tables import AnnotationError
from vared_mm.files import write_bytes

BUILTINS = {"bytes", "list", "dict", "set", "int"}
# All that such a file needs besides containers, numbers and text: arrays, under the module names
# of numpy before and since 2, and what Python 2 and 3 make them with.
HARMLESS = {
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.core.numeric": {"_frombuffer"},
    "_codecs": {"encode"},
    "collections": {"OrderedDict", "defaultdict"},
    "builtins": BUILTINS,
    "__builtin__": BUILTINS,
}
SHOWN = 5


@dataclass(frozen=True)
class TubeAnnotations:
    """Args:
    labels: names of the classes in the order of their numbers.
    gttubes: of each video, by the number of the class, its tubes (n, 5): frame x1 y1 x2 y2.
    nframes: of each video.
    train_videos, test_videos: of each split the names of the videos.
    resolution: height and width of each video, in whose pixels the boxes are.
    """

    labels: list[str]
    gttubes: dict[str, dict[int, list[np.ndarray]]]
    nframes: dict[str, int]
    train_videos: list[list[str]]
    test_videos: list[list[str]]
    resolution: dict[str, tuple[int, int]]


class _Unpickler(pickle.Unpickler):
    """Builds arrays and plain containers and refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in HARMLESS.get(module, ()):
            raise AnnotationError(
                f"it asks for {module}.{name}, which no file of action tubes needs: such a file "
                "holds numpy arrays and plain containers, and anything else could run code"
            )
        return super().find_class(module, name)


def read_tubes(file: str | Path) -> TubeAnnotations:
    """Reads and checks an annotation file; a pickle is trusted with building arrays only.

    Raises:
        AnnotationError: telling all that is wrong with the file or with its tubes.
    """
    file = Path(file)
    if not file.is_file():
        raise AnnotationError(
            f"there is no annotation file {file}; wanted is a pickle like JHMDB-GT.pkl, and "
            "vared-mm jhmdb makes one from other annotations"
        )
    try:
        with file.open("rb") as stream:
            # Python 2 wrote the official files: its text is bytes, and so is the content of arrays.
            content = _Unpickler(stream, encoding="latin1").load()
    # A damaged pickle may raise anything at all.
    except Exception as error:
        told = error if isinstance(error, AnnotationError) else f"it is no whole pickle ({error!r})"
        raise AnnotationError(f"{file} cannot be read: {told}") from error
    wanted = [field.name for field in fields(TubeAnnotations)]
    missing = [n for n in wanted if not isinstance(content, dict) or n not in content]
    if missing:
        raise AnnotationError(f"{file} has no {', '.join(missing)}; wanted {', '.join(wanted)}")
    annotations = TubeAnnotations(**{name: content[name] for name in wanted})
    check_tubes(annotations, file)
    return annotations


def write_tubes(file: str | Path, annotations: TubeAnnotations) -> None:
    """Checks and writes; an interruption leaves the old file."""
    check_tubes(annotations, file)
    write_bytes(file, pickle.dumps(asdict(annotations), protocol=2))


def check_tubes(annotations: TubeAnnotations, source: str | Path) -> None:
    """Raises one `AnnotationError` that tells how much is wrong, and the first of it."""
    try:
        faults = list(_faults(annotations))
    except (TypeError, AttributeError, ValueError, LookupError, OverflowError) as error:
        raise AnnotationError(
            f"{source} does not hold what TubeAnnotations describes, such as "
            f"gttubes[video][number of the class] = [array of frame x1 y1 x2 y2, ...]: {error}"
        ) from error
    if faults:
        rest = f"\n... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise AnnotationError(
            f"{source} has {len(faults)} faults:\n" + "\n".join(faults[:SHOWN]) + rest
        )


def _faults(annotations: TubeAnnotations) -> Iterator[str]:
    check_form(annotations)
    labels = list(annotations.labels)
    if twice := [name for name in dict.fromkeys(labels) if labels.count(name) > 1]:
        yield f"the label {twice[0]!r} stands twice among the {len(labels)} labels"
    splits = [*annotations.train_videos, *annotations.test_videos]
    ends: list[float] = []
    for video in dict.fromkeys(name for split in splits for name in split):
        lacking = [
            name
            for name in ("gttubes", "nframes", "resolution")
            if video not in getattr(annotations, name)
        ]
        if lacking:
            yield f"{video} is in a split and not in {', '.join(lacking)}"
            continue
        frames, resolution = annotations.nframes[video], annotations.resolution[video]
        for label, tubes in annotations.gttubes[video].items():
            if not 0 <= label < len(labels):
                yield f"{video} has the label {label}; there are {len(labels)} labels"
            for tube in tubes:
                if fault := tube_fault(np.asarray(tube), frames, resolution):
                    yield f"{video}: {fault}"
                else:
                    ends.append(np.asarray(tube)[:, 1:].max())
    if ends and max(ends) <= 1:
        yield (
            "all boxes lie within 1 pixel; wanted x1 y1 x2 y2 in pixels, and not as parts of width "
            "and height, as AVA has them"
        )


def check_form(annotations: TubeAnnotations) -> None:
    """Raises a TypeError for what would be read as something else than was meant."""
    labels = annotations.labels
    if isinstance(labels, (str, dict)) or not all(isinstance(name, str) for name in labels):
        raise TypeError(f"labels are {labels!r:.60}, wanted a list of names in their order")
    if any(
        isinstance(split, str) for split in (*annotations.train_videos, *annotations.test_videos)
    ):
        raise TypeError("train_videos and test_videos are to hold a list of names for each split")
    for video, frames in annotations.nframes.items():
        if not isinstance(frames, Integral) or frames < 1:
            raise TypeError(f"nframes[{video!r}] is {frames!r}, wanted a whole number from 1 on")
    for video, tubes in annotations.gttubes.items():
        if odd := [label for label in tubes if not isinstance(label, Integral)]:
            raise TypeError(f"gttubes[{video!r}] has the label {odd[0]!r}, wanted its number")


def tube_fault(tube: np.ndarray, frames: int, resolution: tuple[int, int]) -> str | None:
    """What is wrong with a tube, or None. A box may reach out of the frame, not lie outside."""
    if tube.ndim != 2 or tube.shape[1] != 5 or not len(tube):
        return f"a tube has the shape {tube.shape}; wanted rows of frame x1 y1 x2 y2"
    if tube.dtype.kind not in "iuf" or not np.isfinite(tube[:, 0]).all() or (tube[:, 0] % 1).any():
        return f"a tube has the frames {tube[:, 0].tolist()!r:.60}, wanted whole numbers"
    if tube[:, 0].min() < 1 or tube[:, 0].max() > frames:
        return (
            f"a tube has the frames {tube[:, 0].min():.0f} to {tube[:, 0].max():.0f} of a video "
            f"of {frames}, whose first is 1"
        )
    if len(np.unique(tube[:, 0])) < len(tube):
        return "a tube has two boxes in one frame"
    height, width = resolution
    x1, y1, x2, y2 = tube[:, 1:].T
    inverted = ~((x1 < x2) & (y1 < y2))
    outside = (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0)
    endless = ~np.isfinite(tube[:, 1:]).all(axis=1)
    faults = (
        (inverted, "is empty or inverted, in a frame"),
        (outside, "is outside the frame"),
        (endless, "has no end, in a frame"),
    )
    for wrong, what in faults:
        if wrong.any():
            row = tube[int(np.argmax(wrong))]
            box = " ".join(f"{value:g}" for value in row[1:])
            return (
                f"the box {box} (x1 y1 x2 y2) of frame {row[0]:.0f} {what} of {width} x {height} "
                "pixels"
            )
    return None
