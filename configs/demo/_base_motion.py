# The motion clips and their training: what every network of the demo shares.
# `python tools/make_motion_clips.py data/motion_clips` writes the clips in a few seconds.
default_scope = 'mmaction'
# MMAction2's inferencers draw with it.
visualizer = dict(type='ActionVisualizer', vis_backends=[dict(type='LocalVisBackend')])

data_root = 'data/motion_clips'

# 256 is 1024 channels at the width of 0.25 that the leaf configs give their backbone.
model = dict(
    type='Recognizer3D',
    cls_head=dict(
        type='I3DHead', num_classes=9, in_channels=256, dropout_ratio=0.0, average_clips='prob'
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[128, 128, 128],
        std=[64, 64, 64],
        format_shape='NCTHW',
    ),
)

# No flip: it turns left into right and clockwise into counter-clockwise.
train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=16),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(56, 56), keep_ratio=False),
    dict(type='RandomCrop', size=48),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=16, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(56, 56), keep_ratio=False),
    dict(type='CenterCrop', crop_size=48),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    batch_size=12,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VaRedVideoGuard',
        pipeline=train_pipeline,
        dataset=dict(
            type='VideoDataset',
            ann_file=f'{data_root}/train.txt',
            data_prefix=dict(video=data_root),
        ),
    ),
)
val_dataloader = dict(
    batch_size=12,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VaRedVideoGuard',
        pipeline=test_pipeline,
        dataset=dict(
            type='VideoDataset',
            ann_file=f'{data_root}/val.txt',
            data_prefix=dict(video=data_root),
            test_mode=True,
        ),
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='AccMetric',
        metric_list='top_k_accuracy',
        metric_options=dict(top_k_accuracy=dict(topk=(1,))),
    ),
    dict(type='CostMetric'),
]
test_evaluator = val_evaluator

epochs = 20
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=epochs // 2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    constructor='MergedGroupsConstructor',
    optimizer=dict(type='AdamW', lr=0.004, weight_decay=0.05),
    # Weight decay on the gates' bias would shut them whatever is learned.
    paramwise_cfg=dict(custom_keys={'gate.beta': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=2,
        end=epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=15),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    sync_buffers=dict(type='SyncBuffersHook'),
)
log_processor = dict(type='LogProcessor', window_size=15, by_epoch=True)
randomness = dict(seed=0)
