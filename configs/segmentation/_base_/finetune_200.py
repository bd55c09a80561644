# 200 iterations.
_base_ = 'finetune_1k.py'
train_cfg = dict(max_iters=200, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=10, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=10, end=200, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=200))
