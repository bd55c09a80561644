# 10K iterations.
_base_ = 'sgd_100k.py'
train_cfg = dict(max_iters=10_000, val_interval=1000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=10_000, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=1000))
