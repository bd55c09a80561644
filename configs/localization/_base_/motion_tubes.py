# Generated tubes: `python tools/make_motion_tubes.py data/motion_tubes` writes them in a minute.
_base_ = []
from vared_mm.datasets.key_frame_clips import (  # noqa: E402 (mmengine: _base_ comes first)
    key_frame_pipelines,
)

# No flip: it turns left into right and clockwise into counter-clockwise.
train_pipeline, test_pipeline = key_frame_pipelines(
    clip_len=8, size=96, flip=0, intervals=(2, 3))
data = dict(
    type='JHMDBDataset', data_root='data/motion_tubes', ann_file='JHMDB-GT.pkl', every=4)
loader = dict(batch_size=12, num_workers=2, persistent_workers=True)

train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data, subset='train', pipeline=train_pipeline))
test_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data, subset='test', test_mode=True, pipeline=test_pipeline))
val_dataloader = test_dataloader
# In 4 frames an object may leave its own box, and a stray one there would make the smoother tube.
val_evaluator = [
    dict(type='JHMDBMetric', classwise=True, link=dict(min_score=0.1)),
    dict(type='CostMetric'),
]
test_evaluator = val_evaluator
del data, loader
