# X3D-M of fewer channels: no more MACs than the dynamic one takes in the paper, 16 frames.
_base_ = 'x3d_m_8xb12-16x5x1-120e_mini-kinetics200-rgb.py'
model = dict(backbone=dict(gamma_b=1.8), cls_head=dict(in_channels=345))
