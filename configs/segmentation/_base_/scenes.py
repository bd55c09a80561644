# The generated scenes: `python tools/make_scenes.py data/scenes` writes them in seconds.
data_root = 'data/scenes'
metainfo = dict(
    classes=('ground', 'disc', 'square', 'triangle', 'ring'),
    palette=[[90, 90, 90], [230, 75, 60], [60, 130, 230], [70, 180, 75], [240, 190, 40]])

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
split = dict(type='BaseSegDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **split, data_prefix=dict(img_path='train', seg_map_path='train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **split, data_prefix=dict(img_path='val', seg_map_path='val'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='CostMetric')]
test_evaluator = val_evaluator
del split
