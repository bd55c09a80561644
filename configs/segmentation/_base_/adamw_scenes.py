# AdamW, a minute of training.
_base_ = 'sgd_100k.py'
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.01, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys={
            'gate.': dict(lr_mult=5.0),
            'gate.beta': dict(lr_mult=5.0, decay_mult=0.0),
        }))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=300, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=300))
