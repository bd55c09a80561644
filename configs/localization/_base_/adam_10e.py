# YOWO's training: Adam, 10 epochs, the rate halved after 3, 4, 5 and 6.
_base_ = 'mmaction::_base_/default_runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=1e-4, weight_decay=5e-4),
    # Weight decay on the gates' bias would shut them whatever is learned.
    paramwise_cfg=dict(custom_keys={'gate.beta': dict(decay_mult=0.)}))
param_scheduler = [dict(type='MultiStepLR', milestones=[3, 4, 5, 6], gamma=0.5)]
default_hooks = dict(
    checkpoint=dict(
        interval=1, max_keep_ckpts=3, save_best='jhmdb/frame_mAP@0.5', rule='greater'))
