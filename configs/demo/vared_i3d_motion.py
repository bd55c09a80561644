# The dynamic form of i3d_motion.py, fine-tuned from it.
_base_ = ['_base_motion.py', '../_base_/vared_i3d.py']

model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.25,
        dynamic=dict(targets=_base_.four_largest),
    )
)
load_from = 'work_dirs/i3d_motion/epoch_20.pth'

epochs = 15
train_cfg = dict(max_epochs=epochs, val_interval=epochs // 3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=1,
        end=epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    optimizer=dict(lr=0.002),
    # Adam moves every weight at its rate: at the others' the gates would not close in 450 steps.
    paramwise_cfg=dict(
        custom_keys={
            'gate.': dict(lr_mult=5.0),
            'gate.beta': dict(lr_mult=5.0, decay_mult=0.0),
        }
    ),
)
