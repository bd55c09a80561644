# In place of ../../_base_/vared.py: every image pays, as none is all right or all wrong.
_base_ = '../../_base_/vared.py'
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=2.0, ramp=0.5, correct='always'),
    dict(type='CostHook'),
    dict(type='PolicyLogHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
