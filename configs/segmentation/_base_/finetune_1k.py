# 1000 iterations from a trained static network, for its dynamic form and for itself alike.
_base_ = 'sgd_100k.py'
train_cfg = dict(max_iters=1000, val_interval=250)
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    # At the others' rate the gates would not close in so short a time.
    paramwise_cfg=dict(
        custom_keys={
            'gate.': dict(lr_mult=5.0),
            'gate.beta': dict(lr_mult=5.0, decay_mult=0.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=1000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=250))
