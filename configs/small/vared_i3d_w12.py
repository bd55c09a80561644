# The dynamic form of i3d_w12.py.
_base_ = ['_base_/clips_square.py', '../_base_/vared_i3d.py']
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.125,
        dynamic=dict(targets=_base_.four_largest)),
    cls_head=dict(in_channels=128))
