# The dynamic form of i3d.py.
_base_ = ['_base_/clips_16.py', '../_base_/vared_i3d.py']
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.25,
        dynamic=dict(targets=_base_.four_largest)),
    cls_head=dict(in_channels=256))
