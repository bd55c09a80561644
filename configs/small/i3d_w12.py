# The paper's I3D at an eighth of its width: so small that clips differ in what they need.
_base_ = ['_base_/clips_square.py', '../_base_/static.py']
model = dict(backbone=dict(type='InceptionI3d', width=0.125), cls_head=dict(in_channels=128))
