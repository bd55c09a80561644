# A short training on one device; VARED_EPOCHS tells how long, 2 epochs or more.
_base_ = 'mmaction::_base_/default_runtime.py'

epochs = int('{{$VARED_EPOCHS:6}}')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    constructor='MergedGroupsConstructor',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01),
    # As in configs/small, whose comment says why.
    paramwise_cfg=dict(
        custom_keys={
            'gate.beta': dict(lr_mult=5.0, decay_mult=0.0),
            'gate.weight2': dict(lr_mult=2.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', begin=1, end=epochs, eta_min_ratio=0.01,
        convert_to_iter_based=True),
]
default_hooks = dict(
    checkpoint=dict(
        interval=1, max_keep_ckpts=1, save_best='jhmdb/frame_mAP@0.5', rule='greater'))
