# x3d.py with CGNet's convolutions.
_base_ = ['_base_/clips_8.py', '../_base_/cgnet.py']
model = dict(
    backbone=dict(type='CGNetX3D', gamma_w=0.5, gamma_b=2.25, gamma_d=1.0),
    cls_head=dict(type='X3DHead', in_channels=288))
