# Small clips and a training of minutes on two cores: what every network of docs/results.md shares.
# `tools/data/small_clips.py` makes the folder. Its place and its number of classes come from the
# environment, so that one config serves every set, and so do the steps; tools/study.py sets them.
_base_ = '../../_base_/recognizer3d.py'
import os  # noqa: E402 (mmengine: _base_ comes first)

default_scope = 'mmaction'
# MMAction2's inferencers draw with it.
visualizer = dict(type='ActionVisualizer', vis_backends=[dict(type='LocalVisBackend')])

# mmengine's {{$...}} would take the quotes of a path for the config's own.
data_root = os.environ.get('VARED_CLIPS', 'data/small_clips')

model = dict(cls_head=dict(num_classes=int('{{$VARED_CLASSES:11}}'), dropout_ratio=0.2))

train_dataloader = dict(
    batch_size=12,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=data_root)))
val_dataloader = dict(
    batch_size=12,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        ann_file=f'{data_root}/val.txt',
        data_prefix=dict(video=data_root),
        test_mode=True))
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='AccMetric',
        metric_list='top_k_accuracy',
        metric_options=dict(top_k_accuracy=dict(topk=(1,)))),
    dict(type='CostMetric'),
]
test_evaluator = val_evaluator

iters = int('{{$VARED_STEPS:400}}')
warm_up = max(1, iters // 10)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    # A step over hundreds of groups of one small parameter would take a tenth of the whole.
    constructor='MergedGroupsConstructor',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=20),
    # Adam moves every weight at its rate: at the others' the gates would not close in so few steps.
    paramwise_cfg=dict(
        custom_keys={
            'gate.beta': dict(lr_mult=5.0, decay_mult=0.0),
            'gate.weight2': dict(lr_mult=2.0),
            'gate.threshold': dict(decay_mult=0.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warm_up),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warm_up,
        end=max(iters, warm_up + 1),
        eta_min_ratio=0.01),
]

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=1),
    sync_buffers=dict(type='SyncBuffersHook'))
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=False)
randomness = dict(seed=0)
