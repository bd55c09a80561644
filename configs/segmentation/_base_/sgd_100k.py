# SGD, poly 0.9, 100K iterations.
_base_ = 'mmseg::_base_/default_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=100_000, val_interval=10_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    # Weight decay on the gates' bias would shut them whatever is learned.
    paramwise_cfg=dict(custom_keys={'gate.beta': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=100_000, by_epoch=False)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=10_000, max_keep_ckpts=2,
        save_best='mIoU'),
    labels=dict(type='CheckLabelsHook'))
