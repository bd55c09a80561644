# r2plus1d.py with CGNet's convolutions.
_base_ = ['_base_/clips_16.py', '../_base_/cgnet.py']
model = dict(
    backbone=dict(type='CGNetR2Plus1d18', base_channels=8), cls_head=dict(in_channels=64))
