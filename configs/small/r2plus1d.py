# The paper's R(2+1)D-18 at an eighth of its width.
_base_ = ['_base_/clips_16.py', '../_base_/static.py']
model = dict(backbone=dict(type='R2Plus1d18', base_channels=8), cls_head=dict(in_channels=64))
