# SGD, cosine, 120 epochs, 8 GPUs with 12 clips each.
_base_ = 'mmaction::_base_/default_runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=120, val_begin=1, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=40, norm_type=2),
    # Weight decay on the gates' bias would shut them whatever is learned; CGNet's thresholds have a
    # loss of their own.
    paramwise_cfg=dict(
        custom_keys={
            'gate.beta': dict(decay_mult=0.0),
            'gate.threshold': dict(decay_mult=0.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=115, eta_min=0, by_epoch=True, begin=5, end=120,
        convert_to_iter_based=True),
]
# Validation is clip-1: one centre clip, centre crop; the test is video-1 and video-5 too, by the
# mean softmax of all clips and crops.
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=3), view_scores=dict(type='ViewScoresHook'))
val_evaluator = [dict(type='ViewAccuracy'), dict(type='CostMetric')]
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=96)
