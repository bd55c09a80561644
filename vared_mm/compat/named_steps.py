"""The toolboxes' pipelines assert what a sample has to be, mostly without a word.

Where its crop is as long as neither side of a video, `ThreeCrop` says `AssertionError` and nothing
more, neither which step it was nor which sample. Nor does OpenCV, as of a picture without a byte.
"""

from __future__ import annotations

import traceback
from types import ModuleType
from typing import Any

from .after_import import after_import
from .cure import Cure, installed_source

PIPELINE = "mmengine.dataset.base_dataset"
# Where the samples of data sets say what they are read from.
PLACES = ("filename", "frame_dir", "audio_path", "img_path", "feature_path")


class StepError(AssertionError, ValueError):
    """A step of a pipeline does not take a sample."""


def name_steps(module: ModuleType) -> None:
    """Lets `Compose` name the step that fails, and the sample."""
    compose, call = module.Compose, module.Compose.__call__

    def named(self: Any, data: Any) -> Any:
        try:
            return call(self, data)
        # Of a pipeline within this one.
        except StepError:
            raise
        except Exception as error:
            if not isinstance(error, AssertionError) and type(error).__module__ != "cv2":
                raise
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            steps = [frame.f_locals for frame in frames if frame.f_code is call.__code__]
            step = type(steps[-1]["t"]).__name__
            said = str(error).strip() or traceback.extract_tb(error.__traceback__)[-1].line
            told = data if isinstance(data, dict) else {}
            place = next((f" {told[key]}" for key in PLACES if isinstance(told.get(key), str)), "")
            raise StepError(f"the pipeline's {step} does not take{place}: {said}") from error

    compose.__call__ = named


CURE = Cure(
    name="named-steps",
    reason="mmengine tells neither the step of a pipeline that an assertion, or an error of "
    "OpenCV's, is of, nor the sample",
    is_needed=lambda: "            data = t(data)\n" in installed_source(PIPELINE),
    apply=lambda: after_import(PIPELINE.__eq__, name_steps),
)
