# Mini-Kinetics-200 in 16 frames spread over the video, at 224 x 224, for a 2-D network.
_base_ = 'mini-kinetics200.py'
from vared_mm.datasets.clips import frame_pipelines  # noqa: E402 (mmengine: _base_ comes first)

train_pipeline, val_pipeline, test_pipeline = frame_pipelines(frames=16, size=224)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=val_pipeline)))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
