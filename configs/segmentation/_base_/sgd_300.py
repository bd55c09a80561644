# 300 iterations, for data that is learned in a minute.
_base_ = 'sgd_100k.py'
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=300, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=300))
