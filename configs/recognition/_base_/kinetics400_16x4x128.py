# Kinetics-400 in clips of 16 frames, every 4th of the video, at 128 x 128.
_base_ = 'kinetics400.py'
from vared_mm.datasets.clips import clip_pipelines  # noqa: E402 (mmengine: _base_ comes first)

train_pipeline, val_pipeline, test_pipeline = clip_pipelines(
    clip_len=16, interval=4, size=128)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=val_pipeline)))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
