# What a dynamic model needs besides the prefix of its backbone's type. These two keys alone, so
# that it stands beside the bases of any toolbox.
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=5.0, ramp=0.5),
    dict(type='CostHook'),
    dict(type='PolicyLogHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
