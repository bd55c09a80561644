# Table 2: I3D on Mini-Kinetics-200, 16 frames, search space 2.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/mini-kinetics200_16x4x256.py',
    '../_base_/sgd_120e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedInceptionI3d'), cls_head=dict(num_classes=200))
