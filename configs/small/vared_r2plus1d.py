# The dynamic form of r2plus1d.py.
_base_ = ['_base_/clips_16.py', '../_base_/vared.py']
model = dict(backbone=dict(type='VaRedR2Plus1d18', base_channels=8), cls_head=dict(in_channels=64))
