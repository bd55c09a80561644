# Gates of three widths, divided by their sum, in the last two stages, which hold nine tenths of
# what is dynamic elsewhere: docs/results.md tells what that gains.
_base_ = 'vared-fcn_r18w16-d8_1xb8-1k_camvid-240x180.py'
model = dict(
    backbone=dict(
        dynamic=dict(targets=r'layer[34]\.\d\.conv\d', search_space=3, normalised=True)))
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=4.0, ramp=0.5, correct='pixels'),
    *_base_.custom_hooks[1:],
]
