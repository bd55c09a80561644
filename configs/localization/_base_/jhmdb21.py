# J-HMDB, split 1: JHMDB-GT.pkl and the folder Frames in data/jhmdb, 16 frames at 224 x 224.
_base_ = []
from vared_mm.datasets.key_frame_clips import (  # noqa: E402 (mmengine: _base_ comes first)
    key_frame_pipelines,
)

train_pipeline, test_pipeline = key_frame_pipelines(clip_len=16, size=224)
data = dict(
    type='JHMDBDataset',
    data_root='data/jhmdb',
    ann_file='JHMDB-GT.pkl',
    data_prefix=dict(img='Frames'),
    split=1)
loader = dict(batch_size=12, num_workers=8, persistent_workers=True)

train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data, subset='train', pipeline=train_pipeline))
test_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data, subset='test', test_mode=True, pipeline=test_pipeline))
val_dataloader = test_dataloader
# Ends of boxes as YOWO's own evaluation counts them.
val_evaluator = [
    dict(type='JHMDBMetric', classwise=True, pixel_ends=True), dict(type='CostMetric')]
test_evaluator = val_evaluator
del data, loader
