# 8 frames of the whole video, at 48 x 48: for square videos, whose colours are drawn already.
_base_ = 'clips.py'
from vared_mm.datasets.clips import whole_video_pipelines  # noqa: E402 (mmengine: _base_ comes first)

train_pipeline, test_pipeline = whole_video_pipelines(
    frames=8, size=(48, 48), area=(0.8, 1.0), aspect=(0.9, 1.1), jitter=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.001))
