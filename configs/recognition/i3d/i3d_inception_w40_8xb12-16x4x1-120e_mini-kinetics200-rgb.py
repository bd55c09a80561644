# I3D of fewer channels: no more MACs than the dynamic one takes in the paper, 16 frames.
_base_ = 'i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb.py'
model = dict(backbone=dict(width=0.625), cls_head=dict(in_channels=640))
