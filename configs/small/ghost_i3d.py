# i3d.py with Ghost modules in the place of what is dynamic in vared_i3d.py.
_base_ = ['_base_/clips_16.py', '../_base_/static.py', '../_base_/four_largest.py']
model = dict(
    backbone=dict(
        type='GhostInceptionI3d',
        width=0.25,
        ghost=dict(targets=_base_.four_largest)),
    cls_head=dict(in_channels=256))
