# In place of ../../_base_/vared.py: images that the network has more right than others pay.
_base_ = '../../_base_/vared.py'
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=2.0, ramp=0.5, correct='pixels'),
    dict(type='CostHook'),
    dict(type='PolicyLogHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
