# The paper's I3D at a quarter of its width.
_base_ = ['_base_/clips_16.py', '../_base_/static.py']
model = dict(backbone=dict(type='InceptionI3d', width=0.25), cls_head=dict(in_channels=256))
