# 5000 iterations.
_base_ = 'finetune_1k.py'
train_cfg = dict(max_iters=5000, val_interval=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=250, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=250, end=5000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=1000))
