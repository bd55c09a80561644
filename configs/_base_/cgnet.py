# What a network of CGNet needs besides the prefix of its backbone's type; as vared.py.
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='ThresholdLossHook', weight=1e-4),
    dict(type='CostHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
