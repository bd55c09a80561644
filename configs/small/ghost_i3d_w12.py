# i3d_w12.py with Ghost modules in the place of what is dynamic in vared_i3d_w12.py.
_base_ = ['_base_/clips_square.py', '../_base_/static.py', '../_base_/four_largest.py']
model = dict(
    backbone=dict(
        type='GhostInceptionI3d',
        width=0.125,
        ghost=dict(targets=_base_.four_largest)),
    cls_head=dict(in_channels=128))
