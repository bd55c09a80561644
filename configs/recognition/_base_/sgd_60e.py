# As sgd_120e.py, in 60 epochs.
_base_ = 'sgd_120e.py'

train_cfg = dict(max_epochs=60)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=55, eta_min=0, by_epoch=True, begin=5, end=60,
        convert_to_iter_based=True),
]
