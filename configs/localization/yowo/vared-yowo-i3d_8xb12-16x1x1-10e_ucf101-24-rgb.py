# YOWO on I3D, search space 2, on UCF101-24; the gates keep their policy of Mini-Kinetics-200.
_base_ = 'yowo-i3d_8xb12-16x1x1-10e_ucf101-24-rgb.py'
checkpoint = 'work_dirs/vared-i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    backbone=dict(type='VaRedInceptionI3d'), init_cfg=dict(checkpoint=checkpoint))
