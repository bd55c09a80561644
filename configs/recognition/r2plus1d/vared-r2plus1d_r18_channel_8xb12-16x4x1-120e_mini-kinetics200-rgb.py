# Table 10: R(2+1)D-18 on Mini-Kinetics-200, 16 frames, dynamic in channels only.
_base_ = 'vared-r2plus1d_r18_8xb12-16x4x1-120e_mini-kinetics200-rgb.py'
model = dict(backbone=dict(dynamic=dict(axes=('channel',))))
