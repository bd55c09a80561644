"""Pipelines of the recognition configs; what differs between those is an argument.

Training takes one random clip of a video, validation the centre crop of its centre clip, the test
several uniform clips with three crops each.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
Pipeline = list[Settings]


def clip_pipelines(
    clip_len: int, interval: int, size: int, clips: int = 10
) -> tuple[Pipeline, Pipeline, Pipeline]:
    """For training, validation and test of a 3-D network.

    Args:
        clip_len, interval: frames of a clip, and how many frames of the video apart.
        size: pixels of the square input.
        clips: how many clips of a video are tested, 3 crops each.
    """
    sample = dict(type="SampleFrames", clip_len=clip_len, frame_interval=interval, num_clips=1)
    centre = dict(sample, test_mode=True)
    shape = "NCTHW"
    return (
        decord_pipeline(sample, shape, random_crop(size)),
        decord_pipeline(centre, shape, [resized(size), dict(type="CenterCrop", crop_size=size)]),
        decord_pipeline(
            dict(centre, num_clips=clips),
            shape,
            [resized(size), dict(type="ThreeCrop", crop_size=size)],
        ),
    )


def frame_pipelines(frames: int, size: int) -> tuple[Pipeline, Pipeline, Pipeline]:
    """For a 2-D network that sees `frames` frames spread over the video; tested on one clip."""
    sample = dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=frames)
    centre = [resized(size), dict(type="CenterCrop", crop_size=size)]
    evaluation = decord_pipeline(dict(sample, test_mode=True), "NCHW", centre)
    return decord_pipeline(sample, "NCHW", random_crop(size)), evaluation, evaluation


def decord_pipeline(sample: Settings, shape: str, crop: Pipeline) -> Pipeline:
    return [
        dict(type="DecordInit"),
        sample,
        dict(type="DecordDecode"),
        *crop,
        dict(type="FormatShape", input_format=shape),
        dict(type="PackActionInputs"),
    ]


def random_crop(size: int) -> Pipeline:
    # 292 pixels for a crop of 256, and in that proportion.
    return [
        resized(round(size * 292 / 256)),
        dict(type="RandomResizedCrop"),
        dict(type="Resize", scale=(size, size), keep_ratio=False),
        dict(type="Flip", flip_ratio=0.5),
    ]


def resized(short_side: int) -> Settings:
    return dict(type="Resize", scale=(-1, short_side))


def whole_video_pipelines(
    frames: int,
    size: tuple[int, int],
    area: tuple[float, float] = (0.6, 1.0),
    aspect: tuple[float, float] = (1.0, 1.6),
    jitter: bool = True,
    shape: str = "NCTHW",
) -> tuple[Pipeline, Pipeline]:
    """For training and test on `frames` frames spread over all of a short video.

    Nothing is mirrored, as left and right may be two classes.

    Args:
        frames: of the clip.
        size: width and height in pixels.
        area, aspect: of the part that is seen in training, of the video's area, and its width by
            its height.
        jitter: whether colours are changed in training.
        shape: "NCHW" for a network that takes frames.
    """
    sample = dict(type="UniformSample", clip_len=frames, num_clips=1)
    whole = dict(type="Resize", scale=size, keep_ratio=False)
    crop = dict(type="RandomResizedCrop", area_range=area, aspect_ratio_range=aspect)
    return (
        decord_pipeline(
            sample, shape, [crop, whole, *([dict(type="ColorJitter")] if jitter else [])]
        ),
        decord_pipeline(dict(sample, test_mode=True), shape, [whole]),
    )
