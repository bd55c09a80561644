# In place of ../../_base_/vared.py: only the key frames that are found right pay for their clips.
# Nothing is asked for below a share of 0.65: half of the MACs cost accuracy that as long a training
# as the static form's did not win back (docs/results.md).
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=5.0, ramp=0.5, target=0.65, correct='matched_box'),
    dict(type='CostHook'),
    dict(type='PolicyLogHook'),
    dict(type='ChannelsLastHook'),
    dict(type='ProgressBarHook'),
]
