# In place of vared.py for the static twin: counted and shown alike.
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='CostHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
