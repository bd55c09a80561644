# r2plus1d.py with its smallest weights at zero; tools/study.py sets the share.
_base_ = 'r2plus1d.py'
custom_hooks = [dict(type='PruneWeightsHook', share=0.6), *_base_.custom_hooks]
