# Hands of asl24, in videos of 32 frames at 128 x 128; ASL24 names its folder. The annotations:
# `python tools/data/jhmdb.py asl24 $ASL24 data/asl24_tubes.pkl`; split 2 is that of validation.
_base_ = []
import os  # noqa: E402 (mmengine: _base_ comes first)

from vared_mm.datasets.key_frame_clips import (  # noqa: E402 (mmengine: _base_ comes first)
    key_frame_pipelines,
)

train_pipeline, test_pipeline = key_frame_pipelines(
    clip_len=8, size=96, video=True, flip=0, intervals=(2, 3))
data = dict(
    type='JHMDBDataset',
    ann_file='data/asl24_tubes.pkl',
    data_prefix=dict(video=f"{os.environ.get('ASL24', 'data/asl24')}/videos"))
loader = dict(batch_size=12, num_workers=2, persistent_workers=True)

# Neighbouring frames are nearly the same: a few key frames of each video tell what all do.
train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data, subset='train', every=16, pipeline=train_pipeline))
val_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data, subset='test', split=2, every=16, test_mode=True, pipeline=test_pipeline))
test_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data, subset='test', every=4, test_mode=True, pipeline=test_pipeline))
# Between key frames a hand may leave its box, and a stray one there would make the smoother tube.
link = dict(min_score=0.1)
val_evaluator = [dict(type='JHMDBMetric', link=link), dict(type='CostMetric')]
test_evaluator = [
    dict(type='JHMDBMetric', classwise=True, link=link),
    dict(type='CostMetric'),
]
del data, loader, link
