# The dynamic form of i3d.py.
_base_ = ['_base_/clips_16.py', '../_base_/vared.py']
model = dict(backbone=dict(type='VaRedInceptionI3d', width=0.25), cls_head=dict(in_channels=256))
