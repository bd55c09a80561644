# Table 6: I3D on Moments-In-Time, 16 frames, search space 2.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/mit_16x4x256.py',
    '../_base_/sgd_60e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedInceptionI3d'), cls_head=dict(num_classes=339))
