"""The views of a video that go through a recogniser together, each of them one clip.

MMAction2 hands them over as (N, views, C, T, H, W), and to 2-D networks as (N, frames, C, H, W),
where the frames of one view follow those of another.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def by_view(inputs: Tensor, frames: int | None) -> Tensor:
    """(N, views, ...) of a batch; what has no views is one.

    Args:
        frames: Of a view, as `frames_of_view` tells them.
    """
    if inputs.ndim == 6:
        return inputs
    if frames and inputs.ndim == 5 and inputs.shape[1] % frames == 0:
        return inputs.unflatten(1, (-1, frames))
    return inputs.unsqueeze(1)


def frames_of_view(model: nn.Module, steps: Sequence[Any] = ()) -> int | None:
    """How many rows of a 2-D recogniser's input are one view; None of other models, or, with a
    warning, where nothing tells it, so that all of a video count as one clip.

    Networks that relate frames, as TSM, TANet and TRN do, are built for a number of them. Others,
    as TSN, take what the pipeline samples, as MMAction2's Recognizer2D reads it: `num_clips` single
    frames or stacks of flow, else `num_clips` views of `clip_len` frames.

    Args:
        steps: Of the pipeline, built.
    """
    if not rows_are_frames(model):
        return None
    for module in model.modules():
        if isinstance(frames := getattr(module, "num_segments", None), int):
            return frames
    for step in steps:
        if hasattr(step, "clip_len") and hasattr(step, "num_clips"):
            is_stack = mean_channels(model) == 2 * step.clip_len
            return step.num_clips if step.clip_len == 1 or is_stack else step.clip_len
    if not any(kind.__name__ == "Recognizer2D" for kind in type(model).__mro__):
        return None
    warnings.warn(
        f"all frames of a video count as one clip: {type(model).__name__} has no num_segments, and "
        "its pipeline no step with clip_len and num_clips",
        stacklevel=2,
    )
    return None


def mean_channels(model: Any) -> int | None:
    """How many channels the data preprocessor knows: 3 of frames, 2·clip_len of stacked flow."""
    mean = getattr(model.data_preprocessor, "mean", None)
    return mean.numel() if isinstance(mean, Tensor) else None


def rows_are_frames(model: nn.Module) -> bool:
    """Whether MMAction2 hands clips over as (N, T, C, H, W), as to 2-D networks, and not as
    (N, views, C, T, H, W)."""
    # A preprocessor that has nothing to do keeps its default of 2-D clips before a 3-D network.
    is_3d = any(kind.__name__ == "Recognizer3D" for kind in type(model).__mro__)
    preprocessor = getattr(model, "data_preprocessor", None)
    return getattr(preprocessor, "format_shape", None) == "NCHW" and not is_3d
