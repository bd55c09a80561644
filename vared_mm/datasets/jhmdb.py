"""Key frames of videos with the boxes of the actions in them: J-HMDB, UCF101-24 and their like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from vared_mm.datasets.tables import AnnotationError
from vared_mm.datasets.tube_annotations import SHOWN, TubeAnnotations, read_tubes
from vared_mm.datasets.video_faults import fault_in, first_line, place_of

# Decoders of MMAction2 that do nothing to boxes; what they are trained on would lie in one pixel.
LEAVE_SHARES = {"ArrayDecode", "OpenCVDecode", "PIMSDecode", "PyAVDecode"}


@DATASETS.register_module()
class JHMDBDataset(BaseDataset):
    """One sample per key frame: the frames with a box in training, all of them in test mode.

    A sample has the keys that MMAction2's transforms of frames, videos and boxes read, `gt_bboxes`
    in shares of the frame's width and height as its `AVADataset` has them.

    Args:
        ann_file: pickle like `JHMDB-GT.pkl`, see `TubeAnnotations`.
        subset: "train" or "test".
        split: number of the split, from 1.
        data_prefix: `dict(img='Frames')` for a folder of frames for each video, or
            `dict(video='videos')` for video files.
        filename_tmpl: name of a frame, counted from 1; UCF101-24 has `{:05d}.jpg`.
        suffix: of the video files.
        every: take only each such key frame of a video.
    """

    def __init__(
        self,
        ann_file: str,
        subset: str,
        split: int = 1,
        data_prefix: dict[str, str] | None = None,
        filename_tmpl: str = "{:05d}.png",
        suffix: str = ".mp4",
        every: int = 1,
        **settings: Any,
    ) -> None:
        if subset not in ("train", "test"):
            raise ValueError(f"subset is {subset!r}; wanted 'train' or 'test'")
        data_prefix = data_prefix or dict(img="Frames")
        if len(data_prefix) != 1 or not set(data_prefix) <= {"img", "video"}:
            raise ValueError(
                f"data_prefix is {data_prefix!r}; wanted dict(img=FOLDER) for frames or "
                "dict(video=FOLDER) for video files"
            )
        if every < 1:
            raise ValueError(f"every={every} has to be at least 1")
        self.subset, self.split, self.every = subset, split, every
        self.filename_tmpl, self.suffix = filename_tmpl, suffix
        super().__init__(ann_file, data_prefix=data_prefix, **settings)
        for step in () if self.test_mode else self.pipeline.transforms:
            if (name := type(step).__name__) in LEAVE_SHARES:
                raise ValueError(
                    f"{name} leaves boxes in shares of the frame; wanted DecordDecode or "
                    "RawFrameDecode in the pipeline of training, which make pixels of them"
                )

    def load_data_list(self) -> list[dict[str, Any]]:
        tubes = read_tubes(self.ann_file)
        splits = getattr(tubes, f"{self.subset}_videos")
        if not 1 <= self.split <= len(splits):
            raise AnnotationError(
                f"{self.ann_file} has {len(splits)} splits, asked was {self.split}"
            )
        self._metainfo["classes"] = tuple(tubes.labels)
        videos = splits[self.split - 1]
        self._check_files(videos, tubes.nframes)
        samples = []
        for video in videos:
            boxes = boxes_by_frame(tubes, video)
            keys = range(1, tubes.nframes[video] + 1) if self.test_mode else sorted(boxes)
            source = self._source(video, tubes.nframes[video])
            for frame in keys[:: self.every]:
                found = boxes.get(frame, NOTHING)
                samples.append({
                    "video": video,
                    "frame": frame,
                    "truth": found,
                    "gt_bboxes": found["boxes"],
                    "gt_labels": found["labels"],
                    "modality": "RGB",
                    **source,
                })  # fmt: skip
        if not samples:
            raise AnnotationError(
                f"{self.ann_file} has no key frame for {self.subset}: of the {len(videos)} videos "
                f"of split {self.split} none has a box"
            )
        return samples

    def prepare_data(self, idx: int) -> Any:
        try:
            return super().prepare_data(idx)
        # What OpenCV and decord raise for a damaged file does not tell which one.
        except Exception as error:
            info = self.get_data_info(idx)
            fault = fault_in(info, error)
            if fault is None:
                raise
            raise AnnotationError(
                f"the clip around frame {info['frame']} of {place_of(info)} cannot be made, as it "
                f"{fault}: {first_line(error)}"
            ) from error

    def _source(self, video: str, frames: int) -> dict[str, Any]:
        """Where the frames are, for `RawFrameDecode` or for `DecordInit`."""
        if "video" in self.data_prefix:
            return {"filename": str(self._file(video))}
        return {
            "frame_dir": str(Path(self.data_prefix["img"], video)),
            "filename_tmpl": self.filename_tmpl,
            "total_frames": frames,
            "offset": 1,
        }

    def _file(self, video: str) -> Path:
        return Path(self.data_prefix["video"], video + self.suffix)

    def _check_files(self, videos: list[str], nframes: dict[str, int]) -> None:
        missing = [fault for v in videos if (fault := self._lacking(v, nframes[v]))]
        if missing:
            rest = f"\n... and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise AnnotationError(
                f"{len(missing)} of {len(videos)} videos are not whole:\n"
                + "\n".join(missing[:SHOWN]) + rest
                + "\nSet data_root and data_prefix to where they are."
            )  # fmt: skip

    def _lacking(self, video: str, frames: int) -> str | None:
        if "video" in self.data_prefix:
            file = self._file(video)
            return None if file.is_file() else f"there is no {file}"
        folder = Path(self.data_prefix["img"], video)
        if not folder.is_dir():
            return f"there is no folder {folder}"
        there = set(os.listdir(folder))
        names = [self.filename_tmpl.format(i) for i in range(1, frames + 1)]
        lost = [name for name in names if name not in there]
        return f"{folder} lacks {len(lost)} of {frames} frames, as {lost[0]}" if lost else None


NOTHING = {
    "boxes": np.zeros((0, 4), np.float32),
    "labels": np.zeros(0, np.int64),
    "tubes": np.zeros(0, np.int64),
}


def boxes_by_frame(tubes: TubeAnnotations, video: str) -> dict[int, dict[str, np.ndarray]]:
    """Of each frame with a box: `boxes` (K, 4) in shares of the frame and cut at its edges, their
    `labels` (K,), and the number (K,) of each one's tube among the `tubes` of the video."""
    height, width = tubes.resolution[video]
    found: dict[int, list[tuple[np.ndarray, int, int]]] = {}
    number = 0
    for label, of_label in sorted(tubes.gttubes[video].items()):
        for tube in of_label:
            for row in np.asarray(tube, np.float64):
                found.setdefault(int(row[0]), []).append((row[1:], label, number))
            number += 1
    scale = np.array([width, height] * 2)
    return {
        frame: {
            "boxes": (np.array([box for box, _, _ in rows]) / scale).clip(0, 1).astype(np.float32),
            "labels": np.array([label for _, label, _ in rows], np.int64),
            "tubes": np.array([tube for _, _, tube in rows], np.int64),
        }
        for frame, rows in found.items()
    }
