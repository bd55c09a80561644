# r2plus1d.py with Ghost modules.
_base_ = ['_base_/clips_16.py', '../_base_/static.py']
model = dict(
    backbone=dict(type='GhostR2Plus1d18', base_channels=8), cls_head=dict(in_channels=64))
