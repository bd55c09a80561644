# As sgd_120e.py, in 256 epochs.
_base_ = 'sgd_120e.py'

train_cfg = dict(max_epochs=256)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=251, eta_min=0, by_epoch=True, begin=5, end=256,
        convert_to_iter_based=True),
]
